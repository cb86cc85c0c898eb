"""What the columns of the ledger mean, each in a line, with its unit where it is a number."""

from __future__ import annotations

from typing import NamedTuple


class Meaning(NamedTuple):
    """What a column holds. Null is always: unknown, or not asked for."""

    words: str
    unit: str = ""


ATTEMPTS = {
    "run_id": Meaning("the run that settled it; begins with its start in UTC"),
    "key": Meaning("what makes two rows of manifests the same edit: a digest of all that is asked for"),
    "id": Meaning("the manifest row's own name"),
    "attempt": Meaning("1 for the first try at this key; `key` and `attempt` together are unique", "count"),
    "manifest": Meaning("the manifest it came from, as the run was given it"),
    "row": Meaning("its row there, from 1 under the header", "count"),
    "service": Meaning("the service, with `ACCOUNT@` before it for a second account"),
    "region": Meaning("the vendor's region, such as `ap-southeast-1`"),
    "model": Meaning("the vendor's model"),
    "prompt": Meaning("as the manifest has it"),
    "negative_prompt": Meaning("as the manifest has it"),
    "video": Meaning("the input: a URL without its signature, or a path"),
    "reference_images": Meaning("the same of the images, in their order"),
    "resolution": Meaning("`720P` or `1080P`, as asked for; it sets the price"),
    "ratio": Meaning("as asked for; null: the input's own"),
    "duration_requested": Meaning("0 kept the input's length, 2 to 10 cut it", "s"),
    "audio_setting": Meaning("`auto` or `origin`"),
    "prompt_extend": Meaning("whether the service was to rewrite the prompt"),
    "watermark": Meaning("whether the video was to say that it is generated"),
    "seed": Meaning("as asked for; null: drawn by the service"),
    "task_id": Meaning("the provider's task; null when none was made, or none is known"),
    "submit_request_id": Meaning("the provider's id of the submit"),
    "status": Meaning("the outcome: `succeeded`, `failed`, `refused`, `cancelled`, `expired`, `not_created`"),
    "code": Meaning("why it did not succeed: the provider's error code or one of wanbatch's; or a remark"),
    "message": Meaning("the same in words, without secrets"),
    "submitted_at": Meaning("when the service took it, by the service's clock", "UTC"),
    "scheduled_at": Meaning("when the service started on it", "UTC"),
    "ended_at": Meaning("when the service was done with it", "UTC"),
    "settled_at": Meaning("when its outcome and cost were final; its UTC day is the folder's", "UTC"),
    "queue_s": Meaning("from `submitted_at` to `scheduled_at`", "s"),
    "run_s": Meaning("from `scheduled_at` to `ended_at`", "s"),
    "input_video_s": Meaning("length of the input, as the service counted it", "s"),
    "output_video_s": Meaning("length of the result, as the service counted it", "s"),
    "billed_s": Meaning("what is paid: input and output; 0 when nothing is, null when nobody can say", "s"),
    "video_count": Meaning("videos that the service counted", "count"),
    "sr": Meaning("resolution that the service counted: 720 or 1080", "lines"),
    "currency": Meaning("of `unit_price` and `cost`: three letters; null without a rate card"),
    "unit_price": Meaning("price of a billed second on the day of the edit", "currency per s"),
    "cost": Meaning("`billed_s` at `unit_price`; 0 when nothing is paid, null when unknown", "currency"),
    "rate_card": Meaning("the dated rate card that the price is from"),
    "output": Meaning("where the video is: a path or a bucket's URL"),
    "output_bytes": Meaning("its size", "bytes"),
    "output_sha256": Meaning("its SHA-256 in hexadecimal"),
    "adopted": Meaning("whether its submit got no answer, and its task was found again"),
    "tags": Meaning("the manifest's `tag_…` columns, without `tag_`"),
}
"""A row per settled attempt; see `wanbatch.ledger.schema.ATTEMPTS`."""

TOTALS = {
    "run_id": Meaning("the run"),
    "service": Meaning("the service"),
    "currency": Meaning("of `cost`; sums of different currencies are never one row"),
    "resolution": Meaning("`720P` or `1080P`"),
    "status": Meaning("the outcome"),
    "attempts": Meaning("how many attempts the run settled so", "count"),
    "billed_s": Meaning("the sum of their `billed_s`", "s"),
    "cost": Meaning("the sum of their known costs", "currency"),
    "unknown_cost": Meaning("how many attempts `cost` leaves out, because theirs is unknown", "count"),
}
"""A row per run, service, currency, resolution and outcome; see `wanbatch.ledger.schema.TOTALS`."""
