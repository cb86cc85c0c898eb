"""The httpx adapter: one method a call of the API, nothing decided here.

No transport retries: a POST is sent once. What an answer means is `wanbatch.wire`'s business.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from wanbatch import telemetry, wire
from wanbatch.errors import BadAnswer, NeverSent, ProbeError, Refused, SubmitInDoubt
from wanbatch.models import MODEL
from wanbatch.pace import Rate, ServiceClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from wanbatch.models import EditRequest, ListedTask, TaskReport, TaskStatus
    from wanbatch.pace import Clock
    from wanbatch.settings import Service
    from wanbatch.wire import Accepted

_CONNECT_S = 10.0
_SUBMIT_S = 60.0
_QUERY_S = 20.0
_UPLOAD_S = 300.0
_BODY_LIMIT = 4 * 1024 * 1024
_PAGE_SIZE = 50
"""The largest page is not documented; a service that gives smaller ones says so in `total_page`."""
_PAGES_LIMIT = 200

_LEAVES = "http11.send_request_headers.started"
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
"""A bare `ssl.SSLError` is not among them: once connected, it is an answer that can't be deciphered."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The task list; `complete` when every page said the same total, and as many tasks came."""

    tasks: tuple[ListedTask, ...]
    complete: bool


class WanClient:
    """The account at one service. The key stays in here and is never shown."""

    def __init__(
        self, service: Service, key: str, *, clock: Clock, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.service = service
        self.clock = ServiceClock(clock)
        self.submits = Rate(service.limits.submit_rate, clock)
        self.queries = Rate(service.limits.query_rate, clock)
        self.lists = Rate(service.limits.query_rate, clock)
        self._cancels = Rate(service.limits.query_rate, clock)
        self._http = _pool(transport, keepalive=20)
        # A kept connection may be closed by the far end just as a POST leaves on it, and then nobody knows
        # whether it arrived: every submit opens its own.
        self._submit_http = _pool(transport, keepalive=0)
        self._authorization = {"Authorization": f"Bearer {key}"}

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()
        await self._submit_http.aclose()

    def __repr__(self) -> str:
        """Name the service, not the key."""
        return f"WanClient({self.service.name})"

    async def submit(
        self, request: EditRequest, media: Sequence[str], *, in_time: Callable[[], bool] = lambda: True
    ) -> Accepted:
        """Create a provider task, and pay for it. Sent once, whatever happens.

        `media` are URLs that the service can reach, the video first. `in_time` is asked when the connection stands
        and nothing has left: connecting may take long.
        Raises `NeverSent`, `Refused` or `SubmitInDoubt`.
        """

        async def look(
            event: str, _: object
        ) -> None:  # https://www.python-httpx.org/advanced/extensions/#trace
            if event == _LEAVES and not in_time():
                raise httpx.ConnectError("too late to be sent")

        exchange = await self._exchange(
            self._submit_http,
            "POST",
            wire.SUBMIT_PATH,
            json=wire.submit_body(request, media),
            headers=wire.submit_headers(media),
            extensions={"trace": look},
            limit_s=_SUBMIT_S,
        )
        outcome = wire.submit_outcome(exchange)
        if isinstance(outcome, NeverSent | Refused | SubmitInDoubt):
            raise outcome
        return outcome

    async def query(self, task_id: str) -> TaskReport:
        """Ask how one provider task is; raises `NeverSent`, `BadAnswer` or `Refused`."""
        await self.queries.wait()
        return wire.task_report(await self._ask("GET", _task_path(task_id)), task_id)

    async def tasks(self, *, status: TaskStatus | None = None) -> Listing:
        """List the account's provider tasks of this model over the last 24 hours.

        No window is asked for: the zone of its bounds is not documented, and a wrong guess would hide tasks.
        A total that changes on the way means that the pages moved, and a task may have slipped between two.
        Raises `NeverSent`, `BadAnswer` or `Refused`.
        """
        found: dict[str, ListedTask] = {}
        totals: set[int | None] = set()
        for page in range(1, _PAGES_LIMIT + 1):
            await self.lists.wait()
            asked = {"page_no": page, "page_size": _PAGE_SIZE, "model_name": MODEL}
            answer = await self._ask(
                "GET", f"{wire.TASKS_PATH}/", params=asked | ({"status": str(status)} if status else {})
            )
            told = wire.task_page(answer)
            found |= {task.task_id: task for task in told.tasks}
            totals.add(told.total)
            if not told.tasks or page >= (told.total_pages or 1):
                break
        complete = len(totals) == 1 and all(total is not None and len(found) >= total for total in totals)
        return Listing(tuple(found.values()), complete=complete)

    async def cancel(self, task_id: str) -> None:
        """Cancel a task that is still PENDING; raises `Refused` (UnsupportedOperation) when it is not.

        Raises `NeverSent` or `BadAnswer` when there is no answer.
        """
        await self._cancels.wait()
        wire.cancelled(await self._ask("POST", f"{_task_path(task_id)}/cancel"))

    async def upload(self, file: Path, name: str) -> str:
        """Put a local file into the service's temporary store (48 hours) and return its `oss://` URL.

        https://www.alibabacloud.com/help/en/model-studio/get-temporary-file-url
        Raises `ProbeError` when the file can't be read, else `NeverSent`, `BadAnswer` or `Refused`; a repeated
        upload costs nothing.
        """
        asked = {"action": "getPolicy", "model": MODEL}
        policy = wire.upload_policy(await self._ask("GET", wire.UPLOADS_PATH, params=asked))
        key = f"{policy.directory}/{name}"
        try:
            with file.open("rb") as content:
                async with self._http.stream(
                    "POST",
                    policy.host,
                    data={**policy.fields, "key": key},
                    files={"file": (name, content)},
                    timeout=httpx.Timeout(_UPLOAD_S, connect=_CONNECT_S),
                ) as answer:
                    status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            raise BadAnswer(f"{file.name}: the upload broke off ({_reason(error)})") from None
        except OSError as error:
            raise ProbeError(f"{file}: {error.strerror or error}; give a readable file") from None
        if status != httpx.codes.OK:
            raise BadAnswer(f"{file.name}: the temporary store answered HTTP {status}")
        return f"oss://{key}"

    async def _ask(self, method: str, path: str, **request: Any) -> wire.Answer:
        """Make a request that costs nothing; raises `NeverSent` or `BadAnswer` when there is no answer."""
        exchange = await self._exchange(self._http, method, path, limit_s=_QUERY_S, **request)
        if isinstance(exchange, wire.Failure):
            raise (BadAnswer if exchange.sent else NeverSent)(f"{self.service.host}: {exchange.reason}")
        return exchange

    @telemetry.of_request
    async def _exchange(
        self,
        http: httpx.AsyncClient,
        method: str,
        path: str,
        *,
        limit_s: float,
        headers: dict[str, str] | None = None,
        **request: Any,
    ) -> wire.Answer | wire.Failure:
        """Send one request once, and say what came back, or that nothing did and whether it may have left."""
        try:
            outgoing = http.build_request(
                method,
                self.service.base_url + path,
                headers=self._authorization | (headers or {}),
                timeout=httpx.Timeout(limit_s, connect=_CONNECT_S, pool=_CONNECT_S),
                **request,
            )
        except httpx.InvalidURL as error:
            return wire.Failure(_reason(error), sent=False)
        try:
            async with asyncio.timeout(limit_s) as limit:
                response = await http.send(outgoing, stream=True)
        except TimeoutError:
            return wire.Failure(f"no answer within {limit_s:.0f} s", sent=True)
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:  # a `Location` may be invalid, too
            return wire.Failure(_reason(error), sent=not isinstance(error, _NEVER_SENT))
        try:
            return await self._read(response, limit.when())
        finally:
            await response.aclose()

    async def _read(self, response: httpx.Response, deadline: float | None) -> wire.Answer:
        """Read an answer; what arrived before it broke off, or before the deadline, is kept."""
        headers = {name.lower(): value for name, value in response.headers.items()}
        if date := wire.parse_date(headers.get("date")):
            self.clock.observe(date)
        body, whole = b"", True
        try:
            async with asyncio.timeout_at(deadline):
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > _BODY_LIMIT:
                        whole = False
                        break
        except (httpx.TransportError, httpx.DecodingError, ssl.SSLError, TimeoutError):
            whole = False
        return wire.Answer(response.status_code, headers, body, whole=whole)


def _task_path(task_id: str) -> str:
    """Name a task in a path; an id is untrusted, and stays one segment."""
    return f"{wire.TASKS_PATH}/{quote(task_id, safe='')}"


def _pool(transport: httpx.AsyncBaseTransport | None, *, keepalive: int) -> httpx.AsyncClient:
    """Make a connection pool: no redirects, no retries."""
    return httpx.AsyncClient(
        transport=transport,
        follow_redirects=False,
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=keepalive, keepalive_expiry=20.0),
    )


def _reason(error: Exception) -> str:
    """Say what broke, without the URL."""
    words = type(error).__name__
    return f"{words}: {error}" if str(error) and "://" not in str(error) else words
