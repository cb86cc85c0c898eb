"""One emulated account with everything behind it; the HTTP around it holds no state of its own."""

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Final

from starlette.requests import Request

from wanbatch.emulator.clock import Clock
from wanbatch.emulator.config import EmulatorConfig
from wanbatch.emulator.faults import Faults
from wanbatch.emulator.pace import Window
from wanbatch.emulator.production import Workshop, foretell
from wanbatch.emulator.results import Results
from wanbatch.emulator.state import State
from wanbatch.emulator.uploads import Uploads

POLICY_RATE: Final = 100


class World:
    """The clock, the account's state, its files, its rates and its faults."""

    def __init__(self, config: EmulatorConfig) -> None:
        self.config = config
        self.clock = Clock(config.speed, config.start)
        self.state = State(config, self.clock, foretell(config))
        self.faults = Faults(config.seed)
        folder = Path(tempfile.mkdtemp(prefix="emulator-", dir=_made(config.results)))
        # In-process clients run no lifespan; the files then go with the world, or with the process.
        self._remove_files = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.results = Results(folder)
        self.uploads = Uploads(folder)
        self.workshop = Workshop(config, self.state, self.results, self.uploads, folder)
        self.reset()

    def reset(self) -> None:
        """Forget every task, the bill, the rates' memory and the faults' counts."""
        self.results.clear()
        self.state.reset()
        self.faults.replace(self.config.faults)
        rate = self.config.query_rate
        self.windows = {
            "submit": Window(self.config.submit_rate),
            "query": Window(rate),
            "list": Window(rate),
            "cancel": Window(rate),
            "policy": Window(POLICY_RATE if rate else 0),
        }

    async def aclose(self) -> None:
        """Stop the work and remove the files."""
        await self.workshop.aclose()
        self._remove_files()


def origin(request: Request) -> str:
    """Give the emulator's own address as this client wrote it."""
    return f"{request.url.scheme}://{request.headers.get('host', 'localhost')}"


def _made(folder: Path | None) -> Path | None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return folder
