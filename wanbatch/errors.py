"""One exception tree.

WanbatchError                 anything a user, a file or the network can cause: one line, no traceback
├── UsageError                a wrong option, key or setting; nothing was submitted
│   └── ManifestError         the manifest can't be read, or has bad rows
├── ServiceError              what the service said, or failed to say
│   ├── NeverSent             no connection: the request can't have arrived
│   ├── Refused               an answer in the API's own JSON that says no
│   │   └── AccountStopped    ... to everything this account asks: key, arrears, quota
│   ├── SubmitInDoubt         the request may have arrived, and no trustworthy answer came back
│   │   ├── Parked            ... and what became of it can't be found out; a person decides
│   │   └── NotCreated        ... and it is proved that no provider task was made
│   ├── BadAnswer             an answer to a harmless request that can't be understood
│   ├── EditFailed            the provider task ended without a result; nothing is billed
│   └── EditExpired           the provider task or its result is gone; it may have been billed
├── ProbeError                an input is not what the service accepts, or can't be reached
├── DownloadError             a finished edit could not be fetched; it stays open and paid
├── StorageError              a disk or bucket refused a write
├── JournalError              the journal is locked, damaged, or not ours
├── ClaimLost                 another run, or a person, has this attempt now
├── LedgerError               the ledger can't be read or written
├── BudgetReached             the next submit could pass the cap
├── LeftOpen                  the run is stopping: what is in flight stays open for the next one
└── Interrupted               a second Ctrl-C: the run stopped at once
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class ExitCode(IntEnum):
    """What the process says to the shell that started it."""

    OK = 0
    BUG = 1
    USAGE = 2
    SOME_FAILED = 3
    INCOMPLETE = 4
    PARKED = 5
    ACCOUNT_STOPPED = 6


class WanbatchError(Exception):
    """Something a person can mend; `str()` is one line that says what, where, and what to do."""

    exit_code = ExitCode.INCOMPLETE


class UsageError(WanbatchError):
    """A wrong option, key or setting; nothing was submitted."""

    exit_code = ExitCode.USAGE


class Severity(StrEnum):
    """Whether a problem stops the run or is only worth knowing."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one cell of a manifest. `row` counts data rows from 1; 0 is the file itself."""

    row: int
    column: str
    value: str
    rule: str
    mend: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        """Say it in one line."""
        row = f"row {self.row}" if self.row else ""
        place = ", ".join(filter(None, (row, self.column))) or "manifest"
        shown = f" {self.value!r}:" if self.value else ""
        return f"{place}:{shown} {self.rule}; {self.mend}"


class ManifestError(UsageError):
    """The manifest can't be read, or has bad rows; `problems` has all of them, in row order."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ServiceError(WanbatchError):
    """What the service said, or failed to say."""


class NeverSent(ServiceError):
    """No connection, no free socket, no such name, no TLS: the request can't have arrived."""


class Refused(ServiceError):
    """An answer in the API's own JSON that says no."""

    def __init__(
        self,
        *,
        http_status: int,
        code: str,
        message: str,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{code or 'refused'} (HTTP {http_status}): {message}")
        self.http_status = http_status
        self.code = code
        self.message = message
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class AccountStopped(Refused):
    """The account itself is refused: key, arrears, quota. Every further request would be refused too."""

    exit_code = ExitCode.ACCOUNT_STOPPED


class SubmitInDoubt(ServiceError):
    """A submit got no trustworthy answer: a provider task may exist. Never send it again blindly."""

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id
        """The id of the submit call, when at least its headers arrived: the task list shows it."""


class Parked(SubmitInDoubt):
    """What became of a submit can't be found out; its money stays reserved until a person decides."""

    exit_code = ExitCode.PARKED


class NotCreated(SubmitInDoubt):
    """It is proved that the unanswered submit made no provider task; the item may be sent again."""


class BadAnswer(ServiceError):
    """An answer to a request that costs nothing could not be understood, or did not come; ask again."""


class EditFailed(ServiceError):
    """The provider task ended as FAILED or CANCELED, or was refused: no result, nothing billed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code or 'no code'}: {message or 'the service gave no reason'}")
        self.code = code
        self.message = message


class EditCancelled(EditFailed):
    """The provider task was cancelled while it was PENDING; nothing billed."""


class EditExpired(ServiceError):
    """The provider task or its result is gone after 24 hours; it may have been billed."""


class ProbeError(WanbatchError):
    """An input is not what the service accepts, or could not be reached."""


class DownloadError(WanbatchError):
    """A finished edit could not be fetched or is not whole; it stays open, and is fetched again."""


class StorageError(WanbatchError):
    """A disk or a bucket refused a read or a write."""


class JournalError(WanbatchError):
    """The journal is locked, damaged, or not one of ours."""


class ClaimLost(WanbatchError):
    """Another run, or a person, has this attempt now; it is theirs to finish."""


class LedgerError(WanbatchError):
    """The ledger can't be read or written."""

    exit_code = ExitCode.USAGE


class BudgetReached(WanbatchError):
    """The worst case of the next submit does not fit under the cap."""


class LeftOpen(WanbatchError):
    """The run is stopping: the provider task goes on and is taken up by the next run."""


class Interrupted(WanbatchError):
    """Somebody insisted: the run stopped at once. The journal has what was in flight."""
