"""The Wan video-editing API on a loopback port: state, HTTP, rendering, server and faults, each apart.

It stands in for the service so that clients can be tried without a key, a network or a bill. It is not
the model: its edits are simple filters. It imports nothing of the rest of the package, since a mistake
made on both sides would hide itself.
"""

from wanbatch.emulator.app import create_app
from wanbatch.emulator.config import EmulatorConfig
from wanbatch.emulator.faults import Fault, FaultError, parse_fault, read_faults
from wanbatch.emulator.server import Emulator, in_thread, running, serve

__all__ = [
    "Emulator",
    "EmulatorConfig",
    "Fault",
    "FaultError",
    "create_app",
    "in_thread",
    "parse_fault",
    "read_faults",
    "running",
    "serve",
]
