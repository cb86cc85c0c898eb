"""Whose a found provider task is: certain, or left alone."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from wanbatch.journal import Attempt, State
from wanbatch.journal.records import spec_of
from wanbatch.matching import Candidate, Doubt, Matching, match
from wanbatch.models import EditRequest, Item, ListedTask, Resolution, TaskReport, TaskStatus, Usage

START = datetime(2026, 11, 22, 12, tzinfo=UTC)


def doubt(
    key: str,
    *,
    prompt: str = "clay",
    video: str | None = None,
    seconds: str | None = "5.00",
    at: float = 0,
    **more: Any,
) -> Doubt:
    """Make an unanswered submit that left `at` seconds after the start."""
    request = EditRequest(video=video or f"https://x/{key}.mp4", prompt=prompt, resolution=Resolution.P720)
    values: dict[str, Any] = dict.fromkeys(Attempt.__dataclass_fields__)
    values |= {
        "key": key,
        "number": 1,
        "state": State.IN_DOUBT,
        "adopted": False,
        "row": 1,
        "spec": spec_of(Item(key=key, row=1, request=request)),
        "input_s": seconds and Decimal(seconds),
    }
    moment = START + timedelta(seconds=at)
    return Doubt(attempt=Attempt(**(values | more)), earliest=moment, latest=moment + timedelta(seconds=120))


def candidate(
    name: str,
    *,
    prompt: str | None = "clay",
    seconds: str = "5.00",
    at: float = 1,
    status: TaskStatus = TaskStatus.SUCCEEDED,
    request_id: str | None = None,
    sr: int = 720,
) -> Candidate:
    """Make a task that the journal does not know, created `at` seconds after the start."""
    usage = Usage(
        billed_s=Decimal(seconds) * 2, input_video_s=Decimal(seconds), output_video_s=Decimal(seconds), sr=sr
    )
    created = START + timedelta(seconds=at)
    return Candidate(
        task=ListedTask(task_id=name, status=status, submit_request_id=request_id, created_at=created),
        report=TaskReport(
            task_id=name,
            status=status,
            orig_prompt=prompt,
            usage=usage if status is TaskStatus.SUCCEEDED else None,
        ),
    )


def adopted(matching: Matching) -> dict[str, str]:
    """Give who got which task."""
    return {name[0]: candidate.task.task_id for name, candidate in matching.adopted.items()}


def absent(matching: Matching) -> set[str]:
    """Give who certainly made nothing."""
    return {name[0] for name in matching.absent}


def test_the_only_possible_task_is_adopted() -> None:
    """One unanswered submit and one task with its prompt and its seconds belong together."""
    assert adopted(match([doubt("a")], [candidate("t")])) == {"a": "t"}


def test_nothing_in_the_list_proves_absence() -> None:
    """With no task that could be its own, a submit made none."""
    assert absent(match([doubt("a")], [])) == {"a"}


def test_strangers_are_left_alone() -> None:
    """Another prompt, another time, another size: none of them is ours."""
    strangers = [
        candidate("prompt", prompt="noir"),
        candidate("early", at=-30),
        candidate("late", at=500),
        candidate("size", sr=1080),
    ]
    matching = match([doubt("a")], strangers)
    assert adopted(matching) == {}
    assert absent(matching) == {"a"}


def test_another_length_proves_nothing() -> None:
    """A task of our prompt and time that was billed for another length is not adopted, and nothing is sent again."""
    matching = match([doubt("a")], [candidate("length", seconds="7.50")])
    assert adopted(matching) == {}
    assert absent(matching) == set()


def test_time_alone_is_no_evidence() -> None:
    """A task that shows no prompt, for an input nobody measured, is never adopted."""
    matching = match([doubt("a", seconds=None)], [candidate("t", prompt=None)])
    assert adopted(matching) == {}
    assert absent(matching) == set()


def test_two_edits_of_one_prompt_are_not_guessed_between() -> None:
    """One task for two submits that could both have made it goes to neither, and neither is sent again."""
    matching = match([doubt("a"), doubt("b")], [candidate("t")])
    assert adopted(matching) == {}
    assert absent(matching) == set()


def test_the_length_tells_edits_of_one_prompt_apart() -> None:
    """With one prompt throughout, the seconds of each input force the matching."""
    doubts = [doubt("a", seconds="5.00"), doubt("b", seconds="6.00"), doubt("c", seconds="7.00")]
    found = [candidate("seven", seconds="7.00"), candidate("five", seconds="5.00")]
    matching = match(doubts, found)
    assert adopted(matching) == {"a": "five", "c": "seven"}
    assert absent(matching) == {"b"}


def test_time_forces_a_matching() -> None:
    """A task older than the second submit is the first one's, which leaves the other task to the second."""
    doubts = [doubt("a", at=0), doubt("b", at=10)]
    assert adopted(match(doubts, [candidate("early", at=5), candidate("late", at=15)])) == {
        "a": "early",
        "b": "late",
    }


def test_the_same_edit_twice_needs_no_telling_apart() -> None:
    """Two rows that ask for exactly the same may take each other's result."""
    doubts = [doubt("a", video="https://x/v.mp4"), doubt("b", video="https://x/v.mp4")]
    matching = match(doubts, [candidate("t")])
    assert len(matching.adopted) == 1
    assert len(matching.absent) == 1


def test_more_tasks_than_submits_are_somebody_elses_too() -> None:
    """When two tasks fit one submit, one is a stranger's, and nobody knows which."""
    matching = match([doubt("a")], [candidate("t"), candidate("u")])
    assert adopted(matching) == {}
    assert absent(matching) == set()


def test_the_request_id_decides_at_once() -> None:
    """The submit's own request id names its task, even while others are undecided."""
    doubts = [doubt("a", submit_request_id="r"), doubt("b")]
    found = [
        candidate("t", status=TaskStatus.RUNNING, request_id="r"),
        candidate("u", status=TaskStatus.RUNNING, request_id="s"),
    ]
    matching = match(doubts, found)
    assert adopted(matching) == {"a": "t"}
    assert matching.undecided


def test_a_running_task_may_still_turn_out_to_be_ours() -> None:
    """Nothing is decided while a task that could be ours has yet to show what it is."""
    matching = match([doubt("a")], [candidate("t", prompt=None, status=TaskStatus.RUNNING)])
    assert matching.undecided
    assert absent(matching) == set()


def test_what_is_unclear_elsewhere_stands_in_nobodys_way() -> None:
    """A stranger's task that fits one submit does not keep an unrelated one from being adopted."""
    doubts = [doubt("a"), doubt("b", prompt="noir")]
    matching = match(doubts, [candidate("t"), candidate("u"), candidate("v", prompt="noir")])
    assert adopted(matching) == {"b": "v"}
    assert absent(matching) == set()


def test_a_task_of_another_key_is_neither_ours_nor_nobodys() -> None:
    """After a change of key our own lost task has the old one: it proves nothing, either way."""
    stranger = replace(candidate("t"), foreign=True)
    matching = match([doubt("a")], [stranger])
    assert adopted(matching) == {}
    assert absent(matching) == set()


def test_another_request_id_proves_nothing() -> None:
    """A proxy's own id in an answer's header does not speak against our task."""
    matching = match(
        [doubt("a", submit_request_id="of-a-proxy")], [candidate("t", request_id="of-the-service")]
    )
    assert adopted(matching) == {"a": "t"}


def test_a_failed_task_costs_nothing_and_hides_nothing() -> None:
    """A task that ended unpaid does not stand in the way of sending again."""
    assert absent(match([doubt("a")], [candidate("t", status=TaskStatus.FAILED)])) == {"a"}


@settings(max_examples=200)
@given(st.data())
def test_no_explanation_contradicts_an_adoption(data: st.DataObject) -> None:
    """Whatever the true story, when every found task is one of ours, what is adopted or absent is true."""
    prompts, lengths = st.sampled_from(["clay", "noir"]), st.sampled_from(["5.00", "6.00"])
    doubts = [
        doubt(
            str(n), prompt=data.draw(prompts), seconds=data.draw(lengths), at=data.draw(st.integers(0, 200))
        )
        for n in range(data.draw(st.integers(1, 5)))
    ]
    made = [d for d in doubts if data.draw(st.booleans())]
    found = [
        candidate(
            f"of-{d.attempt.key}",
            prompt=data.draw(st.sampled_from([d.attempt.item.request.prompt, None])),
            seconds=str(d.attempt.input_s),
            at=(d.earliest - START).total_seconds() + data.draw(st.integers(0, 100)),
        )
        for d in made
    ]
    matching = match(doubts, found)
    assert all(task == f"of-{key}" for key, task in adopted(matching).items())
    assert absent(matching).isdisjoint(d.attempt.key for d in made)
    assert len(set(adopted(matching).values())) == len(matching.adopted)


def test_many_doubts_at_once_are_matched_quickly_enough() -> None:
    """Sixty submits of one prompt, each of another length, all find their own."""
    lengths = [f"{2 + n * 0.13:.2f}" for n in range(60)]
    lengths = [
        length for length, nxt in itertools.pairwise([*lengths, "99"]) if float(nxt) - float(length) > 0.1
    ]
    doubts = [doubt(f"{n:02}", seconds=length) for n, length in enumerate(lengths[::2])]
    found = [candidate(f"{n:02}", seconds=length) for n, length in enumerate(lengths[::2])]
    assert adopted(match(doubts, found)) == {d.attempt.key: d.attempt.key for d in doubts}
