"""A large account over real sockets: hundreds of edits at once, thousands in line.

`SIMULATED_SLOTS=500 SIMULATED_QUEUE=5000 SIMULATED_SPEED=10` is the full size; with `-s` it tells what it cost.
"""

from __future__ import annotations

import os
from itertools import accumulate
from pathlib import Path

import pytest

from tests.conftest import Account, emulated, options, point_to
from tests.simulation.load import MB, measured
from tests.simulation.migration import write_rows
from tests.test_walk import books_agree
from wanbatch import walk
from wanbatch.errors import ExitCode
from wanbatch.opening import open_session
from wanbatch.summary import summarise

SLOTS = int(os.environ.get("SIMULATED_SLOTS", "100"))
ITEMS = int(os.environ.get("SIMULATED_QUEUE", "600"))
SPEED = float(os.environ.get("SIMULATED_SPEED", "100"))


@pytest.mark.slow
@pytest.mark.timeout(120 + 2 * ITEMS * 188 / SLOTS / SPEED + ITEMS / 5)
async def test_a_large_account_is_kept_full_and_its_books_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row is edited once, never more are at the service than the window has places, and memory stays flat."""
    with emulated(slots=SLOTS, speed=SPEED, submit_rate=0, query_rate=0) as account:
        point_to(account, monkeypatch)
        asked = options(
            tmp_path,
            write_rows(tmp_path, ITEMS),
            slots=SLOTS,
            poll_interval=5.0 / SPEED,
            submit_rate=5.0 * SPEED,
            query_rate=20.0 * SPEED,
        )
        async with measured() as load, open_session(asked) as session:
            await walk.edit_videos(session, walk.Steps())
            summary = await summarise(session)
        print(load)  # noqa: T201 - the figures, for whoever runs it with -s
        assert summary.exit_code is ExitCode.OK
        assert summary.counts == {"submitted": ITEMS, "succeeded": ITEMS}
        books_agree(tmp_path, account)
        assert most_at_once(account) <= session.service.limits.window
        assert load.growth < 32 * MB


def most_at_once(account: Account) -> int:
    """Count how many edits waited or ran at the account at its fullest moment."""
    changes = sorted(
        (moment, change)
        for task in account.get("tasks")["tasks"]
        for moment, change in ((task["submitted_at"], 1), (task["ended_at"], -1))
    )
    return max(accumulate(change for _, change in changes))
