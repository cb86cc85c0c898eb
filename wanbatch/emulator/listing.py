"""The list call: its window, its filters, its pages.

Source: https://www.alibabacloud.com/help/en/model-studio/manage-asynchronous-tasks
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from wanbatch.emulator.catalogue import refusal
from wanbatch.emulator.clock import to_ms
from wanbatch.emulator.task import DAY_MS, Status, Task

MAX_PAGE_SIZE: Final = 100
"""Not published; larger pages are cut to this size."""

_DIGITS: Final = len("YYYYMMDDhhmmss")
_MAX_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A list call, checked. Times are milliseconds since the epoch, both ends inclusive."""

    start: int
    end: int
    task_id: str | None = None
    model_name: str | None = None
    status: str | None = None
    page_no: int = 1
    page_size: int = 10

    def selects(self, task: Task) -> bool:
        """Tell whether a task belongs to the answer."""
        return (
            self.start <= task.submitted <= self.end
            and self.task_id in (None, task.task_id)
            and self.model_name in (None, task.edit.model)
            and self.status in (None, task.status)
        )

    def page(self, tasks: Iterable[Task]) -> tuple[int, list[Task]]:
        """Give how many tasks match in all, and those of the page."""
        matching = [task for task in tasks if self.selects(task)]
        first = (self.page_no - 1) * self.page_size
        return len(matching), matching[first : first + self.page_size]


def read_list_query(query: Mapping[str, str], now: int) -> ListQuery:
    """Read a list call's parameters; unknown ones are let pass. Raises Refusal."""
    start, end = _window(query.get("start_time"), query.get("end_time"), now)
    status = query.get("status") or None
    if status is not None and status not in set(Status):
        raise refusal("InvalidParameter", "The type or value of status is out of definition.")
    return ListQuery(
        start=start,
        end=end,
        task_id=query.get("task_id") or None,
        model_name=query.get("model_name") or None,
        status=status,
        page_no=_number(query, "page_no", 1),
        page_size=min(_number(query, "page_size", 10), MAX_PAGE_SIZE),
    )


def _window(start: str | None, end: str | None, now: int) -> tuple[int, int]:
    if start and end:
        first, last = _moment(start), _moment(end)
        if not 0 <= last - first <= DAY_MS:
            raise refusal(
                "InvalidParameter", "The window from start_time to end_time must be within 24 hours."
            )
        return first, last + 999
    if start:
        return _moment(start), _moment(start) + DAY_MS
    last = _moment(end) + 999 if end else now
    return last - DAY_MS, last


def _moment(text: str) -> int:
    try:
        # strptime alone takes fewer digits. The zone is not published; the other times are UTC+8.
        return to_ms(datetime.strptime(f"{text if len(text) == _DIGITS else ''}+0800", "%Y%m%d%H%M%S%z"))
    except ValueError:
        raise refusal("InvalidParameter", "The time format must be YYYYMMDDhhmmss.") from None


def _number(query: Mapping[str, str], name: str, usual: int) -> int:
    text = query.get(name) or str(usual)
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS or int(text) < 1:
        raise refusal("InvalidParameter", f"The type or value of {name} is out of definition.")
    return int(text)
