"""Ledger rows as the journal keeps them: JSON, so that times and decimals are text."""

from __future__ import annotations

from typing import Any

from wanbatch.journal import Batch


def a_row(key: str, **changed: Any) -> dict[str, Any]:
    """Make a row of an edit that succeeded, but for what is changed."""
    usual = {
        "run_id": "run-1",
        "key": key,
        "id": key,
        "attempt": 1,
        "manifest": "m.csv",
        "row": 1,
        "service": "singapore",
        "region": "ap-southeast-1",
        "model": "wan2.7-videoedit",
        "prompt": "粘土 🧱",
        "negative_prompt": None,
        "video": "https://media.example.com/v.mp4",
        "reference_images": ["https://media.example.com/a.png"],
        "resolution": "720P",
        "ratio": None,
        "duration_requested": 0,
        "audio_setting": "auto",
        "prompt_extend": True,
        "watermark": False,
        "seed": 2_147_483_647,
        "task_id": f"task-{key}",
        "submit_request_id": "r",
        "status": "succeeded",
        "code": None,
        "message": None,
        "submitted_at": "2026-11-22T10:00:00.576000+00:00",
        "scheduled_at": None,
        "ended_at": None,
        "settled_at": "2026-11-22T10:05:00.000001+00:00",
        "queue_s": 9.832,
        "run_s": None,
        "input_video_s": "5.02",
        "output_video_s": "5.02",
        "billed_s": "10.04",
        "video_count": 1,
        "sr": 720,
        "currency": "USD",
        "unit_price": "0.1",
        "cost": "1.004",
        "rate_card": "singapore",
        "output": "videos/v.mp4",
        "output_bytes": 3_000_000_000,
        "output_sha256": "ab",
        "adopted": False,
        "tags": {"team": "x", "film": "y"},
    }
    assert changed.keys() <= usual.keys()
    return usual | changed


def a_batch(name: str, *rows: dict[str, Any], run_id: str = "run-1") -> Batch:
    """Put rows into a batch."""
    return Batch(name=name, run_id=run_id, rows=rows)
