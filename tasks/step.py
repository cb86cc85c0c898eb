"""Makes a Prefect task of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed

from wanbatch.errors import LeftOpen, WanbatchError
from wanbatch.redact import scrub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wanbatch.session import Session

_Taken = TypeVar("_Taken")
_Given = TypeVar("_Given")


def as_task(
    step: Callable[[Session, _Taken], Awaitable[_Given]], *, name: str
) -> Callable[[Session, _Taken], Awaitable[_Given]]:
    """Wrap a step so that it is one task run, named after the item, that fails in one line.

    Never retried, cached or stored by Prefect: what happens again, and what is remembered, is the journal's business.
    """

    @task(name=name, task_run_name=name + " {value.name}", cache_policy=NO_CACHE, persist_result=False)
    async def run(session: Session, value: Any) -> _Given | State[Any]:
        try:
            return await step(session, value)
        except LeftOpen as problem:
            return Failed(name="LeftOpen", message=scrub(str(problem)), data=problem)
        except WanbatchError as problem:
            return Failed(message=scrub(str(problem)), data=problem)
        except Exception as problem:  # noqa: BLE001 - Prefect would keep the words of a fault of ours as they are
            return Failed(message=scrub(f"{type(problem).__name__}: {problem}"), data=problem)

    async def call(session: Session, value: _Taken) -> _Given:
        given = await run(session, value)
        if isinstance(given, State):
            problem = await given.aresult(raise_on_failure=False)
            raise problem if isinstance(problem, Exception) else WanbatchError(str(given.message))
        return given

    return call
