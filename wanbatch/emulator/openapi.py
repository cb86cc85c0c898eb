"""An OpenAPI 3 description of the public API as the emulator serves it."""

from typing import Any

from wanbatch.emulator.config import EmulatorConfig


def describe(origin: str, config: EmulatorConfig) -> dict[str, Any]:
    """Give the description for an emulator at an address."""
    return {
        "openapi": "3.0.3",
        "info": {"title": config.model, "version": "1"},
        "servers": [{"url": origin}],
        "paths": {},
    }
