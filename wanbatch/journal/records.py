"""What the journal knows of an attempt, as frozen values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from wanbatch.identity import without_signature
from wanbatch.models import AudioSetting, EditRequest, Item, Outcome, Ratio, Resolution, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal


class State(StrEnum):
    """Where an attempt stands."""

    INTENDED = "intended"
    SENT = "sent"
    IN_DOUBT = "in_doubt"
    PARKED = "parked"
    ACCEPTED = "accepted"
    SUCCEEDED = "succeeded"
    STORED = "stored"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One paid try at an item, as the journal has it. Money in the service's currency, times in UTC."""

    key: str
    number: int
    run_id: str
    """The run that holds it, or settled it."""
    state: State
    outcome: Outcome | None
    service: str
    manifest: str
    row: int
    spec: str
    currency: str | None
    reserved: Decimal | None
    """The worst it can cost; None when the service has no rate card."""
    cost: Decimal | None
    input_s: Decimal | None
    """The input's length as probed."""
    intended_at: datetime
    sent_at: datetime | None
    service_time: datetime | None
    """The service's own time before the POST: whatever the POST made is no older."""
    service_sent_at: datetime | None
    """The service's time at the POST, as estimated then."""
    doubted_at: datetime | None
    task_id: str | None
    submit_request_id: str | None
    adopted: bool
    submitted_at: datetime | None
    scheduled_at: datetime | None
    ended_at: datetime | None
    billed_s: Decimal | None
    input_video_s: Decimal | None
    output_video_s: Decimal | None
    video_count: int | None
    sr: int | None
    code: str | None
    message: str | None
    output: str | None
    output_bytes: int | None
    output_sha256: str | None
    settled_at: datetime | None

    @property
    def item(self) -> Item:
        """Rebuild the item it is a try at; URLs without their signatures."""
        return _item(self.key, self.row, self.spec)

    @property
    def signed(self) -> bool:
        """Whether its URLs had signatures, which are not kept: it can't be sent again from here."""
        return bool(json.loads(self.spec).get("signed"))

    @property
    def usage(self) -> Usage | None:
        """What the service counted, once it succeeded."""
        if self.billed_s is None:
            return None
        return Usage(
            billed_s=self.billed_s,
            input_video_s=self.input_video_s,
            output_video_s=self.output_video_s,
            video_count=self.video_count,
            sr=self.sr,
        )

    @property
    def open(self) -> bool:
        """Whether its outcome is still to come."""
        return self.state is not State.SETTLED


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A limit on money: what was spent and is reserved may not pass it. `since` None: this run alone."""

    amount: Decimal
    currency: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Settled attempts that go into the ledger as one file, always under the same name."""

    name: str
    run_id: str
    rows: tuple[Mapping[str, Any], ...]


def spec_of(item: Item) -> str:
    """Keep everything of an item but the signatures of its URLs."""
    request = item.request
    return json.dumps(
        {
            "id": item.id,
            "service": item.service,
            "tags": dict(item.tags),
            "signed": any(without_signature(url) != url for url in request.media),
            "video": without_signature(request.video),
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "reference_images": [without_signature(url) for url in request.reference_images],
            "resolution": request.resolution,
            "ratio": request.ratio,
            "duration": request.duration,
            "audio_setting": request.audio_setting,
            "prompt_extend": request.prompt_extend,
            "watermark": request.watermark,
            "seed": request.seed,
        }
    )


def settled_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a ledger row back into the columns of a settled attempt."""
    spec = {
        "id": row["id"],
        "service": None,
        "tags": dict(row["tags"] or ()),
        "video": row["video"],
        "prompt": row["prompt"],
        "negative_prompt": row["negative_prompt"],
        "reference_images": list(row["reference_images"] or ()),
        "resolution": row["resolution"],
        "ratio": row["ratio"],
        "duration": row["duration_requested"],
        "audio_setting": row["audio_setting"],
        "prompt_extend": row["prompt_extend"],
        "watermark": row["watermark"],
        "seed": row["seed"],
    }
    same = (
        *("key", "run_id", "service", "manifest", "row", "currency", "cost", "task_id", "submit_request_id"),
        *("adopted", "submitted_at", "scheduled_at", "ended_at", "settled_at", "billed_s", "input_video_s"),
        *(
            "output_video_s",
            "video_count",
            "sr",
            "code",
            "message",
            "output",
            "output_bytes",
            "output_sha256",
        ),
    )
    return {name: row[name] for name in same} | {
        "number": row["attempt"],
        "state": State.SETTLED,
        "outcome": Outcome(row["status"]),
        "spec": json.dumps(spec),
        "intended_at": row["submitted_at"] or row["settled_at"],
    }


def _item(key: str, row: int, spec: str) -> Item:
    told = json.loads(spec)
    return Item(
        key=key,
        row=row,
        id=told["id"],
        service=told["service"],
        tags=told["tags"],
        request=EditRequest(
            video=told["video"],
            prompt=told["prompt"],
            negative_prompt=told["negative_prompt"],
            reference_images=tuple(told["reference_images"]),
            resolution=Resolution(told["resolution"]),
            ratio=Ratio(told["ratio"]) if told["ratio"] else None,
            duration=told["duration"],
            audio_setting=AudioSetting(told["audio_setting"]),
            prompt_extend=told["prompt_extend"],
            watermark=told["watermark"],
            seed=told["seed"],
        ),
    )
