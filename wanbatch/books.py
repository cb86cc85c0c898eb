"""What an attempt costs, and the row that the ledger has of it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from wanbatch.identity import without_signature
from wanbatch.journal import Outcome
from wanbatch.models import MODEL
from wanbatch.redact import scrub

if TYPE_CHECKING:
    from datetime import datetime

    from wanbatch.journal import Attempt
    from wanbatch.pricing import Rate
    from wanbatch.settings import Service

_UNPAID = {Outcome.FAILED, Outcome.REFUSED, Outcome.CANCELLED, Outcome.NOT_CREATED}
"""Failed calls cost nothing: https://www.alibabacloud.com/help/en/model-studio/model-pricing ."""


def cost_of(attempt: Attempt, outcome: Outcome, rate: Rate | None) -> Decimal | None:
    """Price an attempt in the rate's currency; None when its seconds or its price are unknown."""
    if outcome in _UNPAID:
        return Decimal(0)
    if attempt.billed_s is None or rate is None:
        return None
    return rate.cost(attempt.billed_s)


def ledger_row(
    attempt: Attempt,
    outcome: Outcome,
    *,
    service: Service,
    rate: Rate | None,
    code: str,
    message: str,
    settled_at: datetime,
) -> dict[str, Any]:
    """Write down everything about a settled attempt, in the columns of `wanbatch.ledger.ATTEMPTS`."""
    item = attempt.item
    request = item.request
    unpaid = outcome in _UNPAID
    return {
        "run_id": attempt.run_id,
        "key": attempt.key,
        "id": item.id,
        "attempt": attempt.number,
        "manifest": attempt.manifest,
        "row": attempt.row,
        "service": attempt.service,
        "region": service.region,
        "model": MODEL,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "video": without_signature(request.video),
        "reference_images": [without_signature(url) for url in request.reference_images],
        "resolution": str(request.resolution),
        "ratio": request.ratio and str(request.ratio),
        "duration_requested": request.duration,
        "audio_setting": str(request.audio_setting),
        "prompt_extend": request.prompt_extend,
        "watermark": request.watermark,
        "seed": request.seed,
        "task_id": attempt.task_id,
        "submit_request_id": attempt.submit_request_id,
        "status": str(outcome),
        "code": code or None,
        "message": scrub(message) or None,
        "submitted_at": attempt.submitted_at,
        "scheduled_at": attempt.scheduled_at,
        "ended_at": attempt.ended_at,
        "settled_at": settled_at,
        "queue_s": _seconds(attempt.submitted_at, attempt.scheduled_at),
        "run_s": _seconds(attempt.scheduled_at, attempt.ended_at),
        "input_video_s": attempt.input_video_s,
        "output_video_s": attempt.output_video_s,
        "billed_s": Decimal(0) if unpaid else attempt.billed_s,
        "video_count": attempt.video_count,
        "sr": attempt.sr,
        "currency": rate and rate.currency,
        "unit_price": rate and rate.unit_price,
        "cost": cost_of(attempt, outcome, rate),
        "rate_card": rate and rate.card,
        "output": attempt.output,
        "output_bytes": attempt.output_bytes,
        "output_sha256": attempt.output_sha256,
        "adopted": attempt.adopted,
        "tags": dict(item.tags),
    }


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return max((end - start).total_seconds(), 0.0) if start and end else None
