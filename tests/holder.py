"""A process of its own that holds claims: `python -m tests.holder JOURNAL RUN KEY...`.

It tells what it won as JSON, then waits until its standard input ends. The first key is only claimed, the second
also sent, the third also accepted, and so are those that follow.
"""

from __future__ import annotations

import json
import sys

from wanbatch.errors import ClaimLost
from wanbatch.journal import Journal
from wanbatch.models import EditRequest, Item


def main(url: str, run_id: str, *keys: str) -> None:
    """Claim, tell, wait."""
    journal = Journal.open(url)
    journal.begin_run(run_id, service="test", manifest="m.csv")
    sys.stdin.readline()
    won = []
    for place, key in enumerate(keys):
        item = Item(key=key, row=1, request=EditRequest(video="https://media.example.com/v.mp4"))
        try:
            attempt = journal.claim(run_id, item, service="test", manifest="m.csv", number=1)
        except ClaimLost:
            continue
        won.append(key)
        if place > 0:
            attempt = journal.sent(attempt, service_time=None)
        if place > 1:
            journal.accepted(attempt, task_id=f"task-of-{key}", request_id=None)
    sys.stdout.write(json.dumps(won) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
