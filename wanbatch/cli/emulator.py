"""`wanbatch emulator`: the Wan API on a loopback port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wanbatch.emulator.config import EmulatorConfig
from wanbatch.emulator.faults import parse_fault, read_faults
from wanbatch.emulator.server import serve
from wanbatch.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def serve_emulator(
    *,
    port: int,
    speed: float,
    key: str,
    slots: int,
    submit_rate: int,
    query_rate: int,
    seed: int,
    media: Path | None,
    render: bool,
    faults_file: Path | None,
    faults: tuple[str, ...],
) -> None:
    """Serve until interrupted."""
    try:
        told = read_faults(faults_file.read_bytes()) if faults_file else ()
        config = EmulatorConfig(
            key=key,
            speed=speed,
            slots=slots,
            submit_rate=submit_rate,
            query_rate=query_rate,
            seed=seed,
            media=media,
            render=render,
            faults=(*told, *map(parse_fault, faults)),
        )
    except OSError as error:
        raise UsageError(f"{faults_file}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        serve(config, port=port)
    except OSError as error:
        raise UsageError(f"port {port}: {error.strerror}; choose another --port") from None
