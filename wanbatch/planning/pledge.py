"""The plan as a file, and a run that is held to it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wanbatch.errors import UsageError
from wanbatch.files import replacing
from wanbatch.manifest import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wanbatch.manifest import Rows
    from wanbatch.options import RunOptions
    from wanbatch.planning.costs import Sums
    from wanbatch.planning.plan import Plan
    from wanbatch.pricing import RateCard
    from wanbatch.settings import Service

_LARGEST = 16 * 1024 * 1024


class Pledge(BaseModel):
    """What a plan file holds a run to; the rest of the file is for people."""

    model_config = ConfigDict(frozen=True)

    wanbatch_plan: Literal[1]
    """The version of the file's shape."""
    manifest_digest: str
    service: str
    prices: tuple[str, ...]
    probed: bool
    worst: Annotated[Decimal, Field(ge=0)] | None
    """The most that the run may spend; None when a price is not known."""


def hold_to(path: Path, options: RunOptions, service: Service, rates: RateCard) -> Pledge:
    """Read a plan file and hold a run against it; raises `UsageError` for the first thing that differs."""
    pledge = _read(path)
    if difference := _difference(pledge, options, service, rates):
        raise UsageError(f"{path}: {difference}; nothing was submitted")
    return pledge


def _read(path: Path) -> Pledge:
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{path}: is far too large for a plan; name the file of `wanbatch plan --out`")
        return Pledge.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror or error}; name the file of `wanbatch plan --out`"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        words = ": ".join(filter(None, (where, first["msg"])))
        raise UsageError(f"{path}: is no plan of this version ({words}); plan again") from None


def _difference(pledge: Pledge, options: RunOptions, service: Service, rates: RateCard) -> str | None:
    if pledge.service != service.name:
        return f"was made for {pledge.service}, not for {service.name}; plan again, or name that --service"
    if pledge.prices != tuple(_prices(rates)):
        return "was made with other prices; plan again, or name the same --rate-card"
    if pledge.probed and not options.probe and options.budget is None:
        return "was made of inputs that were looked at; leave out --no-probe, or name a --budget"
    if pledge.manifest_digest != _keys_digest(Path(options.manifest)):
        return f"{options.manifest} has changed since, or is another manifest; plan again"
    return None


def _prices(rates: RateCard) -> Iterator[str]:
    """Write every price of a card on a line, with everything that could make another cost of it."""
    for rate in rates.rates:
        until = f" to {rate.effective_until}" if rate.effective_until else ""
        yield (
            f"{rate.card}: {rate.resolution} {rate.unit_price.normalize():f} {rate.currency}/s "
            f"from {rate.effective_from}{until}"
        )


def write_plan(plan: Plan, path: Path) -> None:
    """Write the plan into a file, whole or not at all; raises `UsageError` when it can't be written."""
    try:
        with replacing(path) as part:
            part.write_text(json.dumps(as_json(plan), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}; name another file with --out") from None


def as_json(plan: Plan) -> dict[str, Any]:
    """Give a plan as JSON values; money and seconds as strings, which keep every digit."""
    pledge = Pledge(
        wanbatch_plan=1,
        manifest_digest=plan.digest,
        service=plan.service.name,
        prices=tuple(_prices(plan.rates)),
        probed=plan.options.probe,
        worst=plan.worst,
    )
    times = plan.run_times
    left = {name: plan.seconds_left(getattr(times, name)) for name in ("quick", "mean", "slow")}
    return {
        **pledge.model_dump(mode="json"),
        "made_at": plan.made_at.isoformat(),
        "manifest": plan.options.manifest,
        "rows": plan.rows,
        "counts": {str(name): number for name, number in sorted(plan.counts.items()) if number},
        "currency": plan.rates.currency,
        "new": _sums(plan.new),
        "spread": {"cut": plan.cut, "unknown_length": plan.unknown_length},
        "open": {
            "edits": plan.open_edits,
            "reserved": {name: f"{amount:f}" for name, amount in sorted(plan.reserved.items())},
        },
        "run_s": asdict(times),
        "left_s": {name: round(seconds) for name, seconds in left.items()},
        "finished_at": (plan.made_at + timedelta(seconds=left["mean"])).isoformat(),
        "tags": {
            tag: {value: _sums(sums) for value, sums in values.items()} for tag, values in plan.tags.items()
        },
        "dearest": [
            {
                "row": dear.row,
                "name": dear.name,
                "video": dear.video,
                "billed_s": f"{dear.seconds:f}",
                "expected": None if dear.worst is None else f"{dear.expected:f}",
                "worst": None if dear.worst is None else f"{dear.worst:f}",
            }
            for dear in plan.dearest
        ],
        "problems": [
            {"row": found.row, "name": found.value, "problem": found.rule} for found in plan.problems
        ],
    }


def _sums(sums: Sums) -> dict[str, Any]:
    def amount(value: Decimal) -> str | None:
        return f"{value:f}" if sums.known else None

    return {
        "edits": sums.edits,
        "unknown_price": sums.unknown,
        "billed_s": f"{sums.seconds:f}",
        "low": amount(sums.low),
        "expected": amount(sums.expected),
        "worst": amount(sums.worst),
    }


class KeysDigest:
    """Tells one manifest from another: by the edits it asks for, in order, and for which service."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, rows: Rows) -> None:
        """Take in the next rows."""
        lines = [f"{key}\0{name}\n" for key, name in zip(rows.keys, rows.texts("service"), strict=True)]
        self._digest.update("".join(lines).encode())

    def hexdigest(self) -> str:
        """Give the digest of all rows so far: 32 hexadecimal digits."""
        return self._digest.hexdigest()


def _keys_digest(manifest: Path) -> str:
    """Digest a whole manifest; raises `ManifestError`."""
    digest = KeysDigest()
    for rows in read_rows(manifest):
        digest.add(rows)
    return digest.hexdigest()
