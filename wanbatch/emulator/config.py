"""Every setting of the emulator in one frozen value."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal

from wanbatch.emulator.faults import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorConfig:
    """How the emulator behaves; the defaults are the documented behaviour of the Singapore service."""

    key: str = field(default="sk-emulator", repr=False)
    """The one API key that is let in."""
    workspaces: frozenset[str] = frozenset({"ws-emulator"})
    """Workspace ids accepted in `X-DashScope-WorkSpace`; the header may be left out."""
    model: str = "wan2.7-videoedit"
    region: str = "ap-southeast-1"

    speed: float = 1.0
    """Emulated seconds per real second; 0 is a clock that moves only when told to."""
    start: datetime | None = None
    """Where the clock starts (aware); the present by default."""
    seed: int = 0
    """Same seed and same calls: same run times, input durations and faults."""

    slots: int = 5
    overflow: Literal["queue", "reject"] = "queue"
    """What happens to a submit when every slot runs: wait as PENDING, or HTTP 429."""
    submit_rate: int = 5
    """Submits per emulated second; 0 is no limit."""
    query_rate: int = 20
    """Queries, lists and cancels per emulated second, each counted by itself; 0 is no limit."""
    mean_run_s: float = 188.0
    min_run_s: float = 60.0
    max_run_s: float = 300.0
    retention: Literal["end", "submit"] = "end"
    """Whether the 24 hours of a task count from its end or from its submit."""

    late_validation: bool = False
    """Accept bad parameters at submit and deliver the error as a FAILED task."""
    bill_truncated_input: bool = False
    """Under truncation, bill only the part of the input that was used instead of all of it."""
    sr_as_string: bool = False
    """Give `usage.SR` as `"720"`, as the Java samples show it."""
    price_720p: Decimal = Decimal("0.10")
    price_1080p: Decimal = Decimal("0.15")
    currency: str = "USD"

    render: bool = True
    """Fetch the inputs and render real videos; otherwise draw durations and serve tiny valid clips."""
    media: Path | None = None
    """A folder served at `/media/`."""
    results: Path | None = None
    """Where result files are kept; a temporary folder by default."""
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.min_run_s <= self.mean_run_s <= self.max_run_s:
            raise ValueError("run times need 0 < min_run_s <= mean_run_s <= max_run_s")
        if self.slots < 1 or self.speed < 0 or self.submit_rate < 0 or self.query_rate < 0:
            raise ValueError("slots must be at least 1; speed and rates must not be negative")
        if self.start is not None and self.start.tzinfo is None:
            raise ValueError("start must carry a time zone")
        if self.media is not None and not self.media.is_dir():
            raise ValueError(f"media folder {self.media} is not a directory")

    def price(self, resolution: str) -> Decimal:
        """Give the unit price per billed second of `720P` or `1080P`."""
        return self.price_720p if resolution == "720P" else self.price_1080p
