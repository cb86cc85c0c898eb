"""The daily report flow, and what is shipped for deploying it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.automations import Automation
from prefect.testing.utilities import prefect_test_harness
from prefect.utilities.importtools import import_object

from flows.cost_report import cost_report
from tests.conftest import Account, options, write_manifest
from tests.test_walk import edit

DEPLOYMENTS = Path(__file__).parent.parent / "deployments"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200), pytest.mark.xdist_group("prefect")]


async def test_the_report_flow_writes_a_page_and_focus_rows(tmp_path: Path, account: Account) -> None:
    """The page and the FOCUS rows of a ledger are written, and the rows come to what was billed."""
    await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 3)))
    with prefect_test_harness(server_startup_timeout=120):
        page, focus = await cost_report(str(tmp_path / "ledger"), str(tmp_path / "reports"), stills=2)
    told_page, rows = read(page, focus)
    assert "<html" in told_page
    assert len(rows) == len(account.bill()) == 3


def read(page: str, focus: str) -> tuple[str, list[dict[str, str]]]:
    """Read what the flow wrote."""
    with Path(focus).open(encoding="utf-8", newline="") as file:
        return Path(page).read_text(encoding="utf-8"), list(csv.DictReader(file))


def described() -> list[dict[str, Any]]:
    """Give the deployments that are shipped."""
    told: list[dict[str, Any]] = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text())["deployments"]
    return told


@pytest.mark.parametrize("deployment", described(), ids=lambda deployment: str(deployment["name"]))
def test_every_deployment_names_a_flow_that_is_there(deployment: dict[str, Any]) -> None:
    """The entrypoint of a deployment is a flow of ours, and its parameters are that flow's."""
    flow = import_object(deployment["entrypoint"])
    assert deployment.get("parameters", {}).keys() <= flow.parameters.properties.keys()


def test_the_example_automation_is_one() -> None:
    """Prefect accepts the example automation as it stands."""
    automation = Automation.model_validate(yaml.safe_load((DEPLOYMENTS / "automation.yaml").read_text()))
    assert automation.enabled
