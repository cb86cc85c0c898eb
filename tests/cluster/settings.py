"""The settings of deployments/compose.yaml, so that what is measured is what is shipped."""

from __future__ import annotations

from pathlib import Path

import yaml

COMPOSE = Path(__file__).parents[2] / "deployments" / "compose.yaml"


def server_settings() -> dict[str, str]:
    """Give the settings of the Prefect server that have nothing to do with its place in the compose file."""
    environment = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]["prefect"]["environment"]
    return {
        name: str(value)
        for name, value in environment.items()
        if name.startswith("PREFECT_SERVER_")
        and not name.startswith(("PREFECT_SERVER_API_", "PREFECT_SERVER_UI_"))
    }
