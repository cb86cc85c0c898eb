"""Debian's Chromium without a window, driven over its DevTools protocol; it reaches no network."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FLAGS = [
    "--headless",
    "--no-sandbox",  # it runs as root in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--window-size=1280,1000",
    "--remote-debugging-port=0",
]
PATIENCE_S = 60


class Tab:
    """One page, and all that it said, asked the network for, or opened as a dialog."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a DevTools method, keeping the events that come before its answer."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters}
        await self._connection.send(json.dumps(request))
        while (message := await self._next()).get("id") != self._number:
            self.events.append(message)
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    async def open(self, page: Path) -> None:
        """Open a file and wait until it is loaded; what an earlier page did is forgotten."""
        self.events.clear()
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(await self._next())

    async def value(self, expression: str) -> Any:
        """Evaluate JavaScript in the page."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def type(self, element: str, text: str) -> None:
        """Put text where a person would type it, in place of what is there."""
        await self.value(f"document.getElementById('{element}').focus()")
        await self.value(f"document.getElementById('{element}').select()")
        await self.call("Input.insertText", text=text)

    async def choose(self, element: str, option: str) -> None:
        """Choose an option of a list, as a person's choice is told to the page."""
        chosen = f"const list = document.getElementById('{element}'); list.value = {json.dumps(option)};"
        await self.value(f"{{ {chosen} list.dispatchEvent(new Event('input', {{ bubbles: true }})); }}")

    def troubles(self) -> list[dict[str, Any]]:
        """Give the errors, dialogs and console output so far."""
        said = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"}
        return [
            event
            for event in self.events
            if event["method"] in said
            or (event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] != "verbose")
        ]

    def requested(self) -> set[str]:
        """Give the scheme of everything the page asked for."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return {event["params"]["request"]["url"].partition(":")[0] for event in sent}

    async def refused(self) -> str:
        """Wait for a request that came to nothing, and say why it did not leave."""
        while not (failed := [event for event in self.events if event["method"] == "Network.loadingFailed"]):
            self.events.append(await self._next())
        return str(failed[0]["params"].get("blockedReason"))

    async def _next(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            message: dict[str, Any] = json.loads(await self._connection.recv())
        return message


def chromium() -> str:
    """Find the browser. Where CI runs it must be there; elsewhere the test is skipped without it."""
    found = shutil.which("chromium")
    if found is None and not os.environ.get("CI"):
        pytest.skip("there is no chromium here: apt-get install chromium")
    assert found, "the page's tests need chromium: apt-get install chromium"
    return found


@asynccontextmanager
async def new_tab(profile: Path) -> AsyncIterator[Tab]:
    """Start a browser with a profile of its own, and give its one tab."""
    process = await asyncio.create_subprocess_exec(
        chromium(),
        *FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port = await _port(profile / "DevToolsActivePort")
        async with httpx.AsyncClient(trust_env=False) as http:
            tabs = (await http.get(f"http://127.0.0.1:{port}/json/list")).json()
        (address,) = [tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"]
        async with connect(address, max_size=None, proxy=None) as connection:
            yield Tab(connection)
    finally:
        process.terminate()
        await process.wait()


async def _port(file: Path) -> int:
    async with asyncio.timeout(PATIENCE_S):
        while (port := _written(file)) is None:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)
    return port


def _written(file: Path) -> int | None:
    """Read the port, once the browser has written the whole file: it ends with another line."""
    lines = file.read_text().splitlines() if file.exists() else []
    return int(lines[0]) if len(lines) > 1 else None
