"""What a task of the account is: the edit asked for, its fate, its states and times."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from wanbatch.emulator.bill import Usage
from wanbatch.emulator.catalogue import Failure

DAY_MS: Final = 24 * 3600 * 1000
"""How long a task, and its result's address, can be asked for."""

Outcome = Usage | Failure
"""What an edit comes to: billed seconds, or the reason why not."""


class Status(StrEnum):
    """The states of a task; UNKNOWN is the answer for a task that is not there."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Edit:
    """What a submit asked for, checked and with the service's defaults filled in."""

    model: str
    prompt: str
    video: str
    references: tuple[str, ...] = ()
    negative_prompt: str = ""
    resolution: str = "1080P"
    ratio: str | None = None
    duration: int = 0
    audio_setting: str = "auto"
    prompt_extend: bool = True
    watermark: bool = False
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Fate:
    """What a fault rule has in store for a task."""

    failure: Failure | None = None
    stuck: Literal[Status.PENDING, Status.RUNNING] | None = None
    life_ms: int | None = None
    """From so long after its submit it can no longer be found."""
    sr_as_string: bool = False


@dataclass(slots=True)
class Task:
    """One task of the account. Times are milliseconds since the epoch."""

    task_id: str
    request_id: str
    """Of the submit call."""
    edit: Edit
    who: str
    submitted: int
    run_ms: int
    fate: Fate
    host: str = ""
    """The emulator's own address as the client wrote it: inputs under it are read without a detour."""
    status: Status = Status.PENDING
    scheduled: int | None = None
    ended: int | None = None
    outcome: Outcome | None = None
    """Known before the end when the work was quicker than the drawn run time."""

    def hidden(self, now: int) -> bool:
        """Tell whether a fault has made the task unfindable."""
        return self.fate.life_ms is not None and now >= self.submitted + self.fate.life_ms


@dataclass(frozen=True, slots=True)
class Started:
    """A task that began to run and waits for its outcome to be delivered."""

    task_id: str
    edit: Edit
    host: str
