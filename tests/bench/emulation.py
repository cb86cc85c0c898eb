"""M13: how many requests a second the emulator answers, and how fast its time can go by."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.bench.account import served
from tests.bench.figures import Figure
from tests.bench.machine import BenchError, run, side_by_side
from tests.conftest import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.account import Served
    from tests.bench.setting import Setting

_CONNECTIONS = 2
_ASKED_S = 3.0
_STEP_S = 5
_PATIENCE_S = 30.0
_EDITS = 100
_SLOTS = 5
_MODEL = "wan2.7-videoedit"


def measure(setting: Setting, _: Path, __: dict[str, str]) -> Iterator[Figure]:
    """Ask it for a task over plain sockets; and drive a batch through it by its clock."""
    requests = [_requests_a_second(seed) for seed in setting.seeds]
    with _moto() as port:
        moto = median(_asked(port, "/moto-api/data.json") for _ in setting.seeds)
    seconds = [_simulated(seed) for seed in setting.seeds]
    yield Figure(
        measure="M13",
        what="requests a second",
        unit="",
        ours=median(requests),
        goal=1000,
        at_least=True,
        peers={"moto server": moto},
        runs=requests,
        note=f"{_CONNECTIONS} connections ask for one task; of moto, for its own state",
    )
    yield Figure(
        measure="M13",
        what="simulated seconds a second",
        unit="",
        ours=median(seconds),
        goal=500,
        at_least=True,
        peers={"real time (moto, LocalStack)": 1.0},
        runs=seconds,
        note=f"{_EDITS} edits, its clock moved on by {_STEP_S} s at a time, one list call a step",
    )


def _requests_a_second(seed: int) -> float:
    with served(seed=seed) as account:
        wire = _Wire(int(account.origin.rpartition(":")[2]))
        task_id = wire.submit("make it look like clay")
        return _asked(wire.port, f"/api/v1/tasks/{task_id}")


def _asked(port: int, path: str) -> float:
    """Ask over some connections at once, in a process of their own each, for a while."""
    jobs = [lambda: run("emulation", str(port), path) for _ in range(_CONNECTIONS)]
    return float(sum(one.told for one in side_by_side(jobs)))


def _simulated(seed: int) -> float:
    """Take a batch through an emulator whose clock stands still but for our steps."""
    with served(seed=seed, speed=0) as account:
        wire = _Wire(int(account.origin.rpartition(":")[2]))
        began, waiting, steps = time.perf_counter(), _EDITS, 0
        while waiting or wire.listed("RUNNING"):
            while waiting and wire.listed("RUNNING") < _SLOTS:
                wire.submit(f"make it look like clay {waiting}")
                waiting -= 1
            wire.call("POST", "/_emulator/clock", {"advance": _STEP_S})
            steps += 1
        taken = time.perf_counter() - began
        _all_ended(account)
        return steps * _STEP_S / taken


def _all_ended(account: Served) -> None:
    if len(account.bill()) != _EDITS:
        raise BenchError("the emulator did not bill every edit")


class _Wire:
    """One connection, spoken to as plainly as can be: the client is not what is measured."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")

    def submit(self, prompt: str) -> str:
        """Submit an edit; gives its task's id."""
        media = [{"type": "video", "url": "https://media.example.com/a.mp4?seconds=5"}]
        body = {
            "model": _MODEL,
            "input": {"prompt": prompt, "media": media},
            "parameters": {"resolution": "720P"},
        }
        answer = self.call("POST", "/api/v1/services/aigc/video-generation/video-synthesis", body)
        return str(answer["output"]["task_id"])

    def listed(self, status: str) -> int:
        """Say how many tasks have a status."""
        return int(self.call("GET", f"/api/v1/tasks?status={status}")["total"])

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Make a call; gives what was answered, read as JSON."""
        return json.loads(self.answer(method, path, b"" if body is None else json.dumps(body).encode()))

    def answer(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Make a call; gives the answer's body. A server that closes its connections gets new ones."""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
            f"X-DashScope-Async: enable\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)
        status = self._answers.readline()
        length, closing = 0, False
        while (line := self._answers.readline()) not in {b"\r\n", b""}:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            closing |= name.lower() == b"connection" and value.strip().lower() == b"close"
        if b" 200 " not in status:
            raise BenchError(f"{method} {path}: {status!r}")
        content = self._answers.read(length)
        if closing:
            self._answers.close()
            self._socket.close()
            self._connect()
        return content


@contextmanager
def _moto() -> Iterator[int]:
    """Serve moto, the emulator of another cloud; gives its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _until_open(port, server)
        yield port
    finally:
        server.terminate()
        server.wait(30)


def _until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(120):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.25)
        else:
            return
        if server.poll() is not None:
            break
    raise BenchError("moto did not come up")


def _main(port: str, path: str) -> None:
    """Ask again and again."""
    wire, count, until = _Wire(int(port)), 0, time.perf_counter() + _ASKED_S
    while time.perf_counter() < until:
        wire.answer("GET", path)
        count += 1
    print(json.dumps(count / _ASKED_S))  # noqa: T201 - the result


if __name__ == "__main__":
    _main(*sys.argv[1:])
