"""The emulator as a process of its own, and what it may import."""

import ast
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import wanbatch.emulator
from wanbatch.emulator import EmulatorConfig, in_thread, running

from .kit import KEY, SUBMIT_HEADERS, body

SUBMIT = "/services/aigc/video-generation/video-synthesis"
PROGRAM = """
from wanbatch.emulator import EmulatorConfig, serve
serve(EmulatorConfig(speed=0, render=False), port=0)
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_interrupted(stop: signal.Signals) -> None:
    """One line says where it is and with which key; a signal ends it at once and without a traceback."""
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        url, *hints = line.split()
        assert "".join(hints) == "(DASHSCOPE_HTTP_BASE_URL;DASHSCOPE_API_KEY=sk-emulator)"
        assert httpx.get(f"{url}/tasks", headers=KEY, trust_env=False).json()["total"] == 0
        process.send_signal(stop)
        assert process.wait(timeout=10) in (0, -stop)
        assert process.stdout.read() == ""
        assert process.stderr.read() == ""


async def test_it_stops_while_a_client_hangs() -> None:
    """An answer that never comes does not keep the emulator from ending."""
    async with running(EmulatorConfig(speed=0, render=False)) as emulator:
        emulator.faults.replace([wanbatch.emulator.parse_fault("accept-then-hang")])
        async with httpx.AsyncClient(timeout=0.2, trust_env=False) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post(emulator.url + SUBMIT, json=body(), headers=SUBMIT_HEADERS)
        assert len(emulator.state.tasks()) == 1


def test_a_taken_port_is_an_error_at_once() -> None:
    """Two emulators cannot share a port."""
    with in_thread(EmulatorConfig(render=False)) as emulator:
        port = int(emulator.origin.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"), in_thread(EmulatorConfig(render=False), port=port):
            pass


def test_it_shares_no_code_with_what_it_judges() -> None:
    """No module of the emulator imports anything of ours outside the emulator."""
    imported = {
        name
        for path in Path(wanbatch.emulator.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in names(node)
    }
    ours = {name for name in imported if name.split(".")[0] in ("wanbatch", "flows", "tasks", "manifests")}
    assert ours
    assert {name for name in ours if not name.startswith("wanbatch.emulator")} == set()


def names(node: ast.AST) -> list[str]:
    """Give the modules an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or "."]
    return []
