"""The ledger as FOCUS rows, for the tools that read every provider's bill in one shape.

FOCUS is the FinOps Open Cost and Usage Specification: https://focus.finops.org/focus-specification/ .
`docs/focus.md` says what each column holds and why.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from wanbatch.errors import LedgerError, UsageError
from wanbatch.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_SECOND = timedelta(seconds=1)
_REGIONS = {"ap-southeast-1": "Singapore", "cn-beijing": "China (Beijing)"}
_EMULATOR = "emulator"

_TEXT, _TIME, _DECIMAL = pa.string(), pa.timestamp("us", tz="UTC"), pa.decimal128(18, 6)
_COLUMNS = {
    "BilledCost": _DECIMAL,
    "BillingAccountId": _TEXT,
    "BillingAccountName": _TEXT,
    "BillingCurrency": _TEXT,
    "BillingPeriodEnd": _TIME,
    "BillingPeriodStart": _TIME,
    "ChargeCategory": _TEXT,
    "ChargeClass": _TEXT,
    "ChargeDescription": _TEXT,
    "ChargeFrequency": _TEXT,
    "ChargePeriodEnd": _TIME,
    "ChargePeriodStart": _TIME,
    "CommitmentDiscountStatus": _TEXT,
    "ConsumedQuantity": _DECIMAL,
    "ConsumedUnit": _TEXT,
    "ContractedCost": _DECIMAL,
    "ContractedUnitPrice": _DECIMAL,
    "EffectiveCost": _DECIMAL,
    "HostProviderName": _TEXT,
    "InvoiceId": _TEXT,
    "InvoiceIssuerName": _TEXT,
    "ListCost": _DECIMAL,
    "ListUnitPrice": _DECIMAL,
    "PricingCategory": _TEXT,
    "PricingCurrency": _TEXT,
    "PricingCurrencyContractedUnitPrice": _DECIMAL,
    "PricingCurrencyEffectiveCost": _DECIMAL,
    "PricingCurrencyListUnitPrice": _DECIMAL,
    "PricingQuantity": _DECIMAL,
    "PricingUnit": _TEXT,
    "ProviderName": _TEXT,
    "PublisherName": _TEXT,
    "RegionId": _TEXT,
    "RegionName": _TEXT,
    "ResourceId": _TEXT,
    "ResourceName": _TEXT,
    "ResourceType": _TEXT,
    "ServiceCategory": _TEXT,
    "ServiceName": _TEXT,
    "ServiceProviderName": _TEXT,
    "ServiceSubcategory": _TEXT,
    "SkuId": _TEXT,
    "SkuMeter": _TEXT,
    "SkuPriceDetails": _TEXT,
    "SkuPriceId": _TEXT,
    "Tags": _TEXT,
    "x_Outcome": _TEXT,
    "x_RunId": _TEXT,
}
_COSTS = ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost", "PricingCurrencyEffectiveCost")
_PRICES = (
    "ContractedUnitPrice",
    "ListUnitPrice",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyListUnitPrice",
)


class FocusVersion(StrEnum):
    """An edition of the specification."""

    V1_2 = "1.2"
    V1_4 = "1.4"


_NOT_IN = {
    FocusVersion.V1_2: frozenset({"HostProviderName", "ServiceProviderName"}),
    FocusVersion.V1_4: frozenset({"ProviderName", "PublisherName"}),
}
"""1.3 named the provider anew, and 1.4 took the old names away."""


@dataclass(frozen=True, slots=True)
class FocusFile:
    """What went into a file."""

    rows: int
    unknown_cost: int
    """Attempts that may have been billed, and are not in it because their cost or seconds are unknown."""


def write_focus(
    attempts: Iterable[Mapping[str, Any]],
    path: Path,
    *,
    version: FocusVersion = FocusVersion.V1_2,
    account: str | None = None,
) -> FocusFile:
    """Write ledger rows as FOCUS rows, one per billed attempt, to a .csv or .parquet file.

    `account` is the billing account's id; without it the service's name stands in. The file appears whole
    or not at all. Raises `UsageError` for another ending and `LedgerError` when it can't be written.
    """
    write = {".csv": _write_csv, ".parquet": _write_parquet}.get(path.suffix.lower())
    if write is None:
        raise UsageError(f"{path}: FOCUS is written as .csv or .parquet; give the file one of these endings")
    kept, unknown = [], 0
    for attempt in attempts:
        if attempt["cost"] is None or attempt["billed_s"] is None:
            unknown += 1
        elif attempt["billed_s"]:
            kept.append(focus_row(attempt, version, account))
    try:
        with replacing(path) as part:
            write(kept, columns(version), part)
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}; choose another --out") from None
    return FocusFile(len(kept), unknown)


def columns(version: FocusVersion) -> tuple[str, ...]:
    """Give the columns of an edition, in order."""
    return tuple(name for name in _COLUMNS if name not in _NOT_IN[version])


def focus_row(
    attempt: Mapping[str, Any], version: FocusVersion = FocusVersion.V1_2, account: str | None = None
) -> dict[str, Any]:
    """Turn a ledger row of known cost into a FOCUS row; money and seconds stay `Decimal`, times UTC."""
    row = _charge(attempt) | _parties(attempt, account) | _thing(attempt)
    return {name: row[name] for name in columns(version)}


def _charge(attempt: Mapping[str, Any]) -> dict[str, Any]:
    cost, price, seconds = attempt["cost"], attempt["unit_price"], attempt["billed_s"]
    start = _whole_second(attempt["submitted_at"] or attempt["settled_at"])
    end = max(_whole_second(attempt["ended_at"] or start) + _SECOND, start + _SECOND)
    month = start.replace(day=1, hour=0, minute=0, second=0)
    return {
        **dict.fromkeys(_COSTS, cost),
        **dict.fromkeys(_PRICES, price),
        **dict.fromkeys(("BillingCurrency", "PricingCurrency"), attempt["currency"]),
        **dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), seconds),
        **dict.fromkeys(("ConsumedUnit", "PricingUnit"), "Seconds"),
        **dict.fromkeys(("ChargeClass", "CommitmentDiscountStatus", "InvoiceId")),
        "BillingPeriodStart": month,
        "BillingPeriodEnd": (month + timedelta(days=31)).replace(day=1),
        "ChargePeriodStart": start,
        "ChargePeriodEnd": end,
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "ChargeDescription": f"{attempt['model']} video edit, {attempt['resolution']}, input and output seconds",
        "PricingCategory": "Standard",
    }


def _parties(attempt: Mapping[str, Any], account: str | None) -> dict[str, Any]:
    emulated = attempt["service"] == _EMULATOR
    provider = "wanbatch emulator" if emulated else "Alibaba Cloud"
    names = ("ProviderName", "PublisherName", "InvoiceIssuerName", "ServiceProviderName", "HostProviderName")
    return {
        **dict.fromkeys(names, provider),
        "BillingAccountId": account or attempt["service"],
        "BillingAccountName": account or attempt["service"],
        "RegionId": attempt["region"],
        "RegionName": _REGIONS.get(attempt["region"], attempt["region"]),
    }


def _thing(attempt: Mapping[str, Any]) -> dict[str, Any]:
    sku = f"{attempt['model']}/{attempt['resolution']}"
    return {
        "ResourceId": attempt["task_id"],
        "ResourceName": attempt["id"] if attempt["task_id"] else None,
        "ResourceType": "Video edit" if attempt["task_id"] else None,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": "Model Studio",
        "SkuId": sku,
        "SkuMeter": "Billed video seconds",
        "SkuPriceDetails": json.dumps({"x_Resolution": attempt["resolution"]}),
        "SkuPriceId": f"{sku}/{attempt['rate_card']}",
        "Tags": json.dumps(dict(attempt["tags"] or ()), ensure_ascii=False, sort_keys=True),
        "x_Outcome": attempt["status"],
        "x_RunId": attempt["run_id"],
    }


def _whole_second(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


def _write_csv(rows: Sequence[Mapping[str, Any]], names: Sequence[str], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_text(row[name]) for name in names] for row in rows)


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    if isinstance(value, Decimal):
        return f"{value:f}"
    return "" if value is None else str(value)


def _write_parquet(rows: Sequence[Mapping[str, Any]], names: Sequence[str], path: Path) -> None:
    schema = pa.schema([(name, _COLUMNS[name]) for name in names])
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
