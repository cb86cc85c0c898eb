"""What a run is asked for: one model, which is also the form that Prefect's UI shows."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from wanbatch.errors import UsageError
from wanbatch.identity import without_signature
from wanbatch.pace import POLL_INTERVAL_S
from wanbatch.settings import KEY_VARIABLE, Limits, journal_address
from wanbatch.stores import local_path

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PERIODS = ("day", "week", "month")
_TWO_NUMBERS = r"^[1-9]\d*-[1-9]\d*$"
_DIGITS = 12
"""So many of a key's hexadecimal digits say whose share it is."""


class RunOptions(BaseModel):
    """Parameters of the `edit-videos` flow. The API key is none of them: some say where it is to be found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest: Annotated[str, Field(description="CSV, TSV, JSON Lines or Parquet; see manifests/README.md")]
    service: Annotated[
        str | None,
        Field(
            description="singapore, beijing, emulator, or a URL ending in /api/v1; "
            "with ACCOUNT@ before it for a second account"
        ),
    ] = None
    ledger: Annotated[str, Field(description="Folder of the Parquet ledger")] = "ledger"
    journal: Annotated[
        str | None,
        Field(description="Path or postgresql:// URL; by default journal.db inside the ledger folder"),
    ] = None
    videos: Annotated[
        str, Field(description="Folder of the finished videos, or a URL such as s3://bucket/prefix")
    ] = "videos"
    name: Annotated[
        str | None, Field(description="How they are named, such as {tag_campaign}/{id}-{resolution}.mp4")
    ] = None
    stage: Annotated[
        str | None,
        Field(description="Bucket that local files are put into for the service: s3://bucket/prefix"),
    ] = None
    budget: Annotated[
        str | None, Field(description="Most that may be spent: 50 for this run, 200/month over the ledger")
    ] = None
    limit: Annotated[int | None, Field(ge=1, description="Submit at most so many new edits")] = None
    max_runtime: Annotated[
        str | None, Field(description="Stop after this long, such as 90m, 8h or 1h30m")
    ] = None
    retry: Annotated[
        tuple[str, ...],
        Field(description="Edit again what ended so: failed, expired, parked, refused, or an error code"),
    ] = ()
    poll_interval: Annotated[
        float, Field(gt=0, le=3600, description="Seconds between two looks at the service")
    ] = POLL_INTERVAL_S
    rate_card: Annotated[str | None, Field(description="Name of a built-in rate card, or a TOML file")] = None
    probe: Annotated[bool, Field(description="Look at every input before it is submitted")] = True
    plan: Annotated[
        str | None,
        Field(description="File of `wanbatch plan --out`: another manifest, service or price is refused"),
    ] = None
    slots: Annotated[
        int | None, Field(ge=1, description="Edits the account runs at once; 5 unless yours has more")
    ] = None
    submit_rate: Annotated[
        float | None, Field(gt=0, description="Submits a second; 5 unless yours has more")
    ] = None
    query_rate: Annotated[
        float | None, Field(gt=0, description="Queries a second; 20 unless yours has more")
    ] = None
    rows: Annotated[
        str | None, Field(pattern=_TWO_NUMBERS, description="Only these rows of the manifest, such as 1-5000")
    ] = None
    share: Annotated[
        str | None,
        Field(
            pattern=r"^[1-9]\d*/[1-9]\d*$",
            description="Of the rows that name no service, only this part: 2/3 is the second third",
        ),
    ] = None
    key_variable: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z_]\w*$",
            description="Environment variable that holds the key; never the key itself",
        ),
    ] = KEY_VARIABLE
    key_block: Annotated[
        str | None, Field(description="Prefect Secret block that holds the key, in place of the variable")
    ] = None
    shared_slots: Annotated[
        str | None,
        Field(description="Prefect global concurrency limit that holds the account's slots for several runs"),
    ] = None

    @field_validator("retry", mode="after")
    @classmethod
    def _trimmed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(word.strip() for word in value if word.strip())

    @property
    def journal_url(self) -> str:
        """Where the journal is; raises `UsageError` when a ledger in a bucket leaves that open."""
        return find_journal(self.ledger, self.journal)

    @property
    def row_range(self) -> tuple[int, int | None]:
        """The first and the last row of the manifest that are to be edited; raises `UsageError`."""
        if self.rows is None:
            return 1, None
        first, last = map(int, self.rows.split("-"))
        if first > last:
            raise UsageError(f"--rows {self.rows} ends before it begins; write 1-5000")
        return first, last

    @property
    def shard(self) -> str:
        """Names the manifest, and which rows of it this run is for."""
        return f"{self.manifest} rows {self.rows}" if self.rows else self.manifest

    def has_share_of(self, key: str) -> bool:
        """Say whether a row that names no service is this run's, by the key of its item."""
        if self.share is None:
            return True
        part, parts = map(int, self.share.split("/"))
        return int(key[:_DIGITS], 16) % parts == part - 1

    @property
    def limits(self) -> Limits:
        """What the account may do."""
        usual = Limits()
        return Limits(
            slots=self.slots or usual.slots,
            submit_rate=self.submit_rate or usual.submit_rate,
            query_rate=self.query_rate or usual.query_rate,
        )

    @property
    def max_runtime_s(self) -> float | None:
        """The longest this run may take, in seconds; raises `UsageError`."""
        return None if self.max_runtime is None else parse_duration(self.max_runtime)


def find_journal(ledger: str, journal: str | None) -> str:
    """Say where the journal of a ledger is: where one says, else beside it.

    Raises `UsageError` when nobody says it and the ledger is in a bucket, where no database can be.
    """
    if found := journal or journal_address():
        return found
    folder = local_path(ledger)
    if folder is None:
        raise UsageError(
            f"--ledger {without_signature(ledger)} holds no journal: name one with --journal (a path on this "
            "machine, or postgresql://...) or in WANBATCH_JOURNAL, the same for every run"
        )
    return str(folder / "journal.db")


def parse_duration(text: str) -> float:
    """Read `90`, `90s`, `15m`, `8h`, `2d` or `1h30m` as seconds; raises `UsageError`."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    whole = "".join(number + unit for number, unit in parts) == text.strip()
    clear = len(parts) == 1 or all(unit for _, unit in parts)  # nobody means 30 seconds by 1h30
    if not (parts and whole and clear):
        raise UsageError(f"{text!r} is no duration; write 90s, 15m, 8h, 2d or 1h30m")
    return sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)


def parse_budget(text: str, now: datetime) -> tuple[Decimal, datetime | None]:
    """Read `200` or `200/month` as an amount and the start of its period in UTC; raises `UsageError`."""
    amount, slash, period = text.strip().partition("/")
    try:
        money = Decimal(amount.strip())
    except InvalidOperation:
        money = Decimal(-1)
    if not money.is_finite() or money < 0 or (slash and period.strip() not in _PERIODS):
        raise UsageError(
            f"{text!r} is no budget; write an amount, or one per {', '.join(_PERIODS)} such as 200/month"
        )
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    starts = {
        "": None,
        "day": midnight,
        "week": midnight - timedelta(days=midnight.weekday()),
        "month": midnight.replace(day=1),
    }
    return money, starts[period.strip()]
