"""The Prefect server that a run reports to."""

from __future__ import annotations

from prefect.client.orchestration import get_client

from wanbatch.errors import UsageError


async def reach_server() -> None:
    """See that the server answers; raises `UsageError`."""
    async with get_client() as client:
        problem = await client.api_healthcheck()
        if problem is not None:
            raise UsageError(
                f"the Prefect server at {client.api_url} does not answer ({type(problem).__name__}); start it with "
                "`prefect server start`, or unset PREFECT_API_URL for a temporary one"
            )
