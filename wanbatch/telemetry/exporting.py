"""Records a run, and exports what is recorded, as the standard `OTEL_*` variables ask for it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from wanbatch.errors import UsageError
from wanbatch.settings import exporters
from wanbatch.telemetry import recording

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_FAREWELL_S = 5.0
"""How long the last figures may take to leave; a collector that is down keeps nobody waiting for longer."""


@asynccontextmanager
async def exporting() -> AsyncIterator[None]:
    """Record what runs in here, and export it; does nothing, and imports nothing, when nobody asked for it.

    Raises `UsageError` when an exporter is not installed, or the port that is to be scraped is taken.
    """
    asked = exporters()
    if not asked:
        yield
        return
    try:
        from wanbatch.telemetry.providers import provide  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise UsageError(
            f"telemetry needs {error.name}: pip install 'wanbatch[telemetry]', or unset the OTEL_ variables"
        ) from None
    with ExitStack() as closing:
        token = recording.set(provide(asked, closing))
        try:
            yield
        finally:
            recording.reset(token)
            farewell = threading.Thread(target=closing.pop_all().close, daemon=True)
            farewell.start()
            await asyncio.to_thread(farewell.join, _FAREWELL_S)
