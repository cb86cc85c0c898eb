"""The emulator's description of itself, attacked."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.result import Ok

from wanbatch.emulator import EmulatorConfig, in_thread
from wanbatch.emulator.openapi import describe

from .kit import KEY

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Serve an emulator without rates."""
    with in_thread(EmulatorConfig(render=False, submit_rate=0, query_rate=0)) as served:
        yield served.origin


Operation = schemathesis.APIOperation[Any, Any, Any, Any]
SCHEMA = schemathesis.openapi.from_dict(describe("http://emulator.test", EmulatorConfig()))
FOUND = [found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)]
OPERATIONS = {operation.label: operation for operation in FOUND}


@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_no_request_breaks_the_emulator(
    operation: Operation, mode: schemathesis.GenerationMode, origin: str
) -> None:
    """Drawn requests, good and bad, get answers the description promises, and never a server error."""

    @EXAMPLES
    @given(operation.as_strategy(generation_mode=mode))
    def attack(case: schemathesis.Case[Operation]) -> None:
        key = {"Authorization": KEY["Authorization"]}
        case.call_and_validate(base_url=f"{origin}/api/v1", headers=key, checks=CHECKS)

    attack()


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_no_request_gets_in_without_the_key(operation: Operation, origin: str) -> None:
    """Drawn requests with another key are all 401, or lead nowhere."""

    @settings(EXAMPLES, max_examples=5)
    @given(operation.as_strategy())
    def attack(case: schemathesis.Case[Operation]) -> None:
        response = case.call(base_url=f"{origin}/api/v1", headers={"Authorization": "Bearer sk-other"})
        assert response.status_code in (401, 404, 405)

    attack()


def test_the_description_names_every_route_of_the_api(origin: str) -> None:
    """Create, list, query, cancel and upload credentials, under the base address."""
    description = httpx.get(f"{origin}/_emulator/openapi.json", trust_env=False).json()
    assert description["servers"] == [{"url": f"{origin}/api/v1"}]
    assert sorted(description["paths"]) == [
        "/services/aigc/video-generation/video-synthesis",
        "/tasks",
        "/tasks/{task_id}",
        "/tasks/{task_id}/cancel",
        "/uploads",
    ]
