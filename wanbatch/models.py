"""What is wanted, and what the service says of it, as frozen values.

The fields of `EditRequest` and `Usage` are those of the published reference:
https://www.alibabacloud.com/help/en/model-studio/wan-video-editing-api-reference
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal

MODEL = "wan2.7-videoedit"
PROMPT_LIMIT = 5_000
NEGATIVE_PROMPT_LIMIT = 500
SEED_LIMIT = 2_147_483_647
REFERENCE_IMAGE_LIMIT = 4
"""The reference of April 2026 says three; its later editions and the guide say four."""
DURATION_RANGE = (2, 10)
"""Seconds, of an input video and of `duration` when it truncates."""


class Resolution(StrEnum):
    """The level of the output; it sets the price per second."""

    P720 = "720P"
    P1080 = "1080P"


class Ratio(StrEnum):
    """The shape of the output; left out, it is the input's own."""

    WIDE = "16:9"
    TALL = "9:16"
    SQUARE = "1:1"
    LANDSCAPE = "4:3"
    PORTRAIT = "3:4"


class AudioSetting(StrEnum):
    """`auto` lets the model decide from the prompt, `origin` keeps the sound as it is."""

    AUTO = "auto"
    ORIGIN = "origin"


class TaskStatus(StrEnum):
    """The provider's states of a task. UNKNOWN: it does not exist, has expired, or is not ours to see."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    UNKNOWN = "UNKNOWN"

    @property
    def ended(self) -> bool:
        """Whether the provider will not change it any more (UNKNOWN only means that it can't be seen)."""
        return self in {TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELED}


class Outcome(StrEnum):
    """How a settled attempt ended: the `status` of its ledger row."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    NOT_CREATED = "not_created"
    """Its submit got no answer, and it is proved, or a person says, that no provider task was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EditRequest:
    """Everything the service is asked for. Media are URLs or local paths, as the manifest has them."""

    video: str
    prompt: str | None = None
    negative_prompt: str | None = None
    reference_images: tuple[str, ...] = ()
    resolution: Resolution = Resolution.P1080
    ratio: Ratio | None = None
    duration: int = 0
    """0 keeps the input's length; 2 to 10 cuts it, in seconds from the start."""
    audio_setting: AudioSetting = AudioSetting.AUTO
    prompt_extend: bool = True
    watermark: bool = False
    seed: int | None = None

    @property
    def media(self) -> tuple[str, ...]:
        """The video, then the reference images."""
        return (self.video, *self.reference_images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One wanted edit: one manifest row."""

    key: str
    """What makes two items the same edit; see `wanbatch.identity`."""
    row: int
    """The data row it came from, counted from 1."""
    request: EditRequest
    id: str | None = None
    service: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What people call it: its own id, or the start of its key."""
        return self.id or self.key[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the service counted, in seconds; `billed_s` is input plus output and is what is paid."""

    billed_s: Decimal
    input_video_s: Decimal | None = None
    output_video_s: Decimal | None = None
    video_count: int | None = None
    sr: int | None = None
    """The resolution level of the output: 720 or 1080."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """One answer about a provider task; times are UTC, and every field may be missing until it ended."""

    task_id: str
    status: TaskStatus
    submitted_at: datetime | None = None
    scheduled_at: datetime | None = None
    ended_at: datetime | None = None
    orig_prompt: str | None = None
    video_url: str | None = field(default=None, repr=False)
    """A bearer secret: whoever has it can fetch the video. Never stored, never logged."""
    usage: Usage | None = None
    code: str = ""
    message: str = ""
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedTask:
    """One row of the provider's task list; it has no prompt and no usage."""

    task_id: str
    status: TaskStatus
    submit_request_id: str | None
    """The id of the *submit* call: the only documented link to a lost answer."""
    created_at: datetime | None
    ended_at: datetime | None = None
    model: str | None = None
    api_key_id: str | None = None
