"""Services, their addresses, limits and keys. The only reader of the environment."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wanbatch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

KEY_VARIABLE = "DASHSCOPE_API_KEY"
ADDRESS_VARIABLE = "DASHSCOPE_HTTP_BASE_URL"
"""Ends in /api/v1, as the vendor's SDK has it."""
JOURNAL_VARIABLE = "WANBATCH_JOURNAL"
LOG_FORMAT_VARIABLE = "WANBATCH_LOG_FORMAT"
LOG_LEVEL_VARIABLE = "WANBATCH_LOG_LEVEL"
EMULATOR_PORT = 8765


@dataclass(frozen=True, slots=True)
class Limits:
    """What the account may do; the defaults are those of a new account.

    https://www.alibabacloud.com/help/en/model-studio/rate-limit
    """

    slots: int = 5
    """Edits the service runs at once."""
    submit_rate: float = 5.0
    query_rate: float = 20.0
    """Requests a second; queries, lists and cancels are each counted by themselves."""

    @property
    def queue_ahead(self) -> int:
        """Edits submitted beyond the slots, so that none idles between an end and our noticing it.

        Of 500 edits of three minutes more than a dozen end while one look at the service follows another.
        """
        return max(2, self.slots // 12)

    @property
    def window(self) -> int:
        """How many edits may be at the service at once."""
        return self.slots + self.queue_ahead


@dataclass(frozen=True, slots=True)
class Service:
    """One endpoint and account, with its limits and its rate card."""

    name: str
    base_url: str
    region: str | None = None
    rate_card: str | None = None
    """The name of its built-in rate card; without one, costs are unknown."""
    limits: Limits = field(default_factory=Limits)

    @property
    def host(self) -> str:
        """The host name alone."""
        return urlsplit(self.base_url).hostname or ""


SERVICES = {
    "singapore": Service(
        "singapore",
        "https://dashscope-intl.aliyuncs.com/api/v1",
        region="ap-southeast-1",
        rate_card="singapore",
    ),
    "beijing": Service(
        "beijing",
        "https://dashscope.aliyuncs.com/api/v1",
        region="cn-beijing",
        rate_card="beijing",
    ),
    "emulator": Service(
        "emulator",
        f"http://127.0.0.1:{EMULATOR_PORT}/api/v1",
        rate_card="emulator",
    ),
}

_REGION_OF_HOST = (
    (re.compile(r"^dashscope-intl\.aliyuncs\.com$"), "ap-southeast-1"),
    (re.compile(r"^dashscope\.aliyuncs\.com$"), "cn-beijing"),
    (re.compile(r"^[\w-]+\.([a-z]+-[a-z]+(?:-\d+)?)\.maas\.aliyuncs\.com$"), None),
)


def region_of(host: str) -> str | None:
    """Say which region a known address of the vendor belongs to."""
    for pattern, region in _REGION_OF_HOST:
        if found := pattern.match(host):
            return region or found.group(1)
    return None


def find_service(
    name: str | None,
    *,
    limits: Limits | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Service:
    """Find a service by its name or URL; `ACCOUNT@` before it tells one account of a region from another.

    `DASHSCOPE_HTTP_BASE_URL` gives the address of a named service, or the service itself when none is named.
    Raises `UsageError` when the name is unknown, the URL is not one, or the address is of another region.
    """
    address = environment.get(ADDRESS_VARIABLE, "").strip()
    account, chosen = _account_of(name or address or "singapore")
    service = SERVICES.get(chosen)
    if service is None:
        service = Service(
            _origin(chosen), _base_url(chosen), region=region_of(urlsplit(chosen).hostname or "")
        )
    elif address:
        service = replace(service, base_url=_same_region(service, _base_url(address)))
    if account:
        service = replace(service, name=f"{account}@{service.name}")
    return replace(service, limits=limits) if limits else service


def _account_of(name: str) -> tuple[str | None, str]:
    found = re.fullmatch(r"([\w-]+)@(.+)", name)
    return (found[1], found[2]) if found else (None, name)


def _same_region(service: Service, address: str) -> str:
    """Refuse to price one region's edits by another's rate card."""
    region = region_of(urlsplit(address).hostname or "")
    if service.region and region and region != service.region:
        raise UsageError(
            f"{ADDRESS_VARIABLE} is an address in {region}, but the service is {service.name} "
            f"({service.region}); unset the variable or name the service of that region"
        )
    return address


def _base_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and parts.hostname
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        known = None
    if not known or parts.query or parts.fragment or parts.username or parts.password:
        raise UsageError(
            f"unknown service {url.partition('?')[0].rpartition('@')[2]!r}: give {', '.join(SERVICES)}, "
            "or an http(s) URL that ends in /api/v1"
        )
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/api/v1'}"


def _origin(url: str) -> str:
    parts = urlsplit(_base_url(url))
    return f"{parts.scheme}://{parts.netloc}"


given_key: ContextVar[str | None] = ContextVar("given_key", default=None)
"""A key that does not come from the environment; kept in this process's memory alone."""


def api_key(variable: str = KEY_VARIABLE, environment: Mapping[str, str] = os.environ) -> str:
    """Read the key; raises `UsageError` when there is none, or when it can't be one."""
    key = (given_key.get() or environment.get(variable, "")).strip()
    if not key:
        raise UsageError(
            f"no API key: set {variable} to the Model Studio key of the service's region "
            "(for the emulator: the one that `wanbatch emulator` prints when it starts)"
        )
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise UsageError(f"{variable} holds a character that no key has; copy the key again")
    return key


def quiet_prefect(environment: MutableMapping[str, str] = os.environ) -> None:
    """Keep Prefect's own logs off the terminal, unless somebody asked for them; before it is imported."""
    environment.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    environment.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")
    environment.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    environment.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    environment.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")


def prefect_server_configured(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether a Prefect server is named; without one, each run starts its own for a while."""
    return bool(environment.get("PREFECT_API_URL"))


def journal_address(environment: Mapping[str, str] = os.environ) -> str | None:
    """Read where the journal is, when the options do not say; here it may hold a password."""
    return environment.get(JOURNAL_VARIABLE, "").strip() or None


def asked_logs(environment: Mapping[str, str] = os.environ) -> tuple[str | None, str | None]:
    """Read the format and the level of the logs, where the environment has them."""
    form, level = (environment.get(name, "").strip() for name in (LOG_FORMAT_VARIABLE, LOG_LEVEL_VARIABLE))
    return form or None, level or None


@dataclass(frozen=True, slots=True)
class Exporters:
    """Where traces and metrics go: `otlp`, `prometheus` (metrics alone), `console`."""

    traces: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    prometheus: tuple[str, int] = ("localhost", 9464)
    """Host and port that are scraped."""
    named: bool = False
    """Whether the environment says what service all this is of."""

    def __bool__(self) -> bool:
        return bool(self.traces or self.metrics)


def exporters(environment: Mapping[str, str] = os.environ) -> Exporters:
    """Read OpenTelemetry's standard variables; nothing is exported unless one of them asks for it.

    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    Raises `UsageError` for an exporter that is not there.
    """
    told = {name: value.strip() for name, value in environment.items() if name.startswith("OTEL_")}
    if told.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return Exporters()
    port = told.get("OTEL_EXPORTER_PROMETHEUS_PORT", "")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= _LAST_PORT):
        raise UsageError(f"OTEL_EXPORTER_PROMETHEUS_PORT: {port!r} is no port")
    usual = Exporters()
    metrics = _asked_exporters(told, "METRICS", {"otlp", "prometheus", "console"})
    if port and "prometheus" not in metrics:
        metrics = (*metrics, "prometheus")
    return Exporters(
        traces=_asked_exporters(told, "TRACES", {"otlp", "console"}),
        metrics=metrics,
        prometheus=(
            told.get("OTEL_EXPORTER_PROMETHEUS_HOST") or usual.prometheus[0],
            int(port or usual.prometheus[1]),
        ),
        named="OTEL_SERVICE_NAME" in told or "service.name=" in told.get("OTEL_RESOURCE_ATTRIBUTES", ""),
    )


def _asked_exporters(told: Mapping[str, str], signal: str, known: set[str]) -> tuple[str, ...]:
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    usual = "otlp" if any(map(told.get, endpoints)) else "none"
    asked = told.get(f"OTEL_{signal}_EXPORTER") or usual
    names = tuple(
        dict.fromkeys(name.strip() for name in asked.split(",") if name.strip() not in {"", "none"})
    )
    if strange := set(names) - known:
        raise UsageError(
            f"OTEL_{signal}_EXPORTER: there is no exporter {', '.join(sorted(strange))!r} here; "
            f"give {', '.join(sorted(known))} or none"
        )
    protocol = told.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or told.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if "otlp" in names and protocol not in {None, "", "http/protobuf"}:
        raise UsageError(f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol!r} is not spoken here; give http/protobuf")
    return names


def serve_metrics(port: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Have the metrics of this process's runs served on a port."""
    environment["OTEL_EXPORTER_PROMETHEUS_PORT"] = str(port)


_LAST_PORT = 65_535
