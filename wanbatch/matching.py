"""Which provider task belongs to which unanswered submit: pure functions over what both sides know.

Nothing ties a provider task to the request that made it, except, sometimes, the request's id. So the whole set
is matched at once: every task that could be ours must be accounted for, and a task is adopted only where every
way of accounting for all of them gives it to the same edit. Anything else is left to a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from wanbatch.models import PROMPT_LIMIT, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence
    from datetime import datetime

    from wanbatch.journal import Attempt
    from wanbatch.models import ListedTask, TaskReport, Usage

_SECONDS_APART = Decimal("0.15")
"""How far a probed length and a billed one may differ: frame rounding on both sides."""


_Name = tuple[str, int]
"""An attempt: its key and its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """An attempt whose submit got no answer, and when (by the service) it can have made a task."""

    attempt: Attempt
    earliest: datetime
    latest: datetime

    @property
    def name(self) -> tuple[str, int]:
        """Tell it from the others."""
        return self.attempt.key, self.attempt.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A provider task that the journal does not know."""

    task: ListedTask
    report: TaskReport
    foreign: bool = False
    """Made with a key that none of our known tasks was made with: hardly ours, but no proof that it is not."""

    @property
    def undecided(self) -> bool:
        """Whether it will still say more about itself."""
        return not self.report.status.ended

    @property
    def unpaid(self) -> bool:
        """Whether it ended without costing anything: it is of no consequence whose it was."""
        return self.report.status in {TaskStatus.FAILED, TaskStatus.CANCELED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """What is certain. Doubts in none of the three are ambiguous."""

    adopted: Mapping[tuple[str, int], Candidate]
    absent: frozenset[tuple[str, int]]
    """No task of the list can be theirs."""
    undecided: frozenset[tuple[str, int]]
    """Some task that could be theirs is still running; nothing but request ids is decided until it ends."""


def compatible(doubt: Doubt, candidate: Candidate) -> bool:
    """Say whether nothing speaks against this task being this submit's."""
    usage = candidate.report.usage
    if identified(doubt, candidate):
        return True
    # Another id proves nothing: a proxy may have put its own into the answer's header.
    return possible(doubt, candidate) and (usage is None or _as_long(doubt.attempt, usage))


def possible(doubt: Doubt, candidate: Candidate) -> bool:
    """Say whether it could be this submit's if the service measured other lengths, or another video by now."""
    created, report, request = candidate.task.created_at, candidate.report, doubt.attempt.item.request
    created = created or report.submitted_at
    if created is None or not doubt.earliest <= created <= doubt.latest:
        return False
    if report.usage and report.usage.sr is not None and f"{report.usage.sr}P" != request.resolution:
        return False
    return report.orig_prompt is None or _same_prompt(request.prompt, report.orig_prompt)


def _as_long(attempt: Attempt, usage: Usage) -> bool:
    """Say whether as many seconds were billed as this attempt asked for."""
    request, probed = attempt.item.request, attempt.input_s
    if probed is None:
        return True
    cut = min(probed, Decimal(request.duration)) if request.duration else probed
    return _near(usage.input_video_s, probed, cut) and _near(usage.output_video_s, cut)


def identified(doubt: Doubt, candidate: Candidate) -> bool:
    """Say whether the service itself names this submit as the one that made the task."""
    request_id = doubt.attempt.submit_request_id
    return bool(request_id) and request_id == candidate.task.submit_request_id


def speaks_for(doubt: Doubt, candidate: Candidate) -> bool:
    """Say whether more than the time points to this submit: a stranger's task may fall into any window."""
    if identified(doubt, candidate):
        return True
    if candidate.foreign:
        return False
    prompt, usage = candidate.report.orig_prompt, candidate.report.usage
    if prompt and _same_prompt(doubt.attempt.item.request.prompt, prompt):
        return True
    return usage is not None and usage.input_video_s is not None and doubt.attempt.input_s is not None


def match(doubts: Sequence[Doubt], candidates: Sequence[Candidate]) -> Matching:
    """Account for every candidate that could be ours, and say what that leaves certain."""
    ours = {doubt.name: doubt for doubt in doubts}
    edges = {
        candidate.task.task_id: {doubt.name for doubt in doubts if compatible(doubt, candidate)}
        for candidate in candidates
        if not candidate.unpaid
    }
    edges = {task_id: names for task_id, names in edges.items() if names}
    theirs = {
        candidate.task.task_id: candidate for candidate in candidates if candidate.task.task_id in edges
    }
    adopted: dict[_Name, Candidate] = {}
    absent = set(ours) - set[_Name]().union(*edges.values())
    undecided: set[_Name] = set()
    for tasks in _components(edges):
        part = {task_id: edges[task_id] for task_id in tasks}
        names = set[_Name]().union(*part.values())
        sure = _identified(part, ours, theirs)
        adopted |= sure
        if any(theirs[task_id].undecided for task_id in part if theirs[task_id] not in sure.values()):
            undecided |= names - sure.keys()
            continue
        found = sure | _certain(part, ours, theirs)
        adopted |= found
        taken = {candidate.task.task_id for candidate in found.values()}
        wanted = set[_Name]().union(*(part[task_id] for task_id in part if task_id not in taken))
        absent |= names - found.keys() - wanted
    taken = {candidate.task.task_id for candidate in adopted.values()}
    left = [each for each in candidates if not each.unpaid and each.task.task_id not in taken]
    absent = {name for name in absent if not any(possible(ours[name], each) for each in left)}
    return Matching(adopted=adopted, absent=frozenset(absent), undecided=frozenset(undecided))


def _components(edges: Mapping[str, set[_Name]]) -> list[set[str]]:
    """Split the tasks into groups that share no submit: what is unclear in one says nothing about another."""
    groups: list[tuple[set[str], set[_Name]]] = []
    for task_id, names in edges.items():
        joined, rest = ({task_id}, set(names)), []
        for group in groups:
            if group[1] & joined[1]:
                joined = (joined[0] | group[0], joined[1] | group[1])
            else:
                rest.append(group)
        groups = [*rest, joined]
    return [tasks for tasks, _ in groups]


def _identified(
    part: Mapping[str, set[_Name]], ours: Mapping[_Name, Doubt], theirs: Mapping[str, Candidate]
) -> dict[_Name, Candidate]:
    """Give the pairs that the service itself names."""
    return {
        name: theirs[task_id]
        for task_id, names in part.items()
        for name in names
        if identified(ours[name], theirs[task_id])
    }


def _certain(
    part: Mapping[str, set[_Name]], ours: Mapping[_Name, Doubt], theirs: Mapping[str, Candidate]
) -> dict[_Name, Candidate]:
    """Give the pairs that hold however the tasks of a group are accounted for."""
    forced = _forced(part, {name: _alike(ours[name]) for name in set[_Name]().union(*part.values())})
    return {
        name: theirs[task_id] for task_id, name in forced.items() if speaks_for(ours[name], theirs[task_id])
    }


def _alike(doubt: Doubt) -> Hashable:
    """Edits that ask for exactly the same are as good as each other: the result of one is that of the other."""
    return doubt.attempt.item.request


def _forced(edges: Mapping[str, set[_Name]], kind: Mapping[_Name, Hashable]) -> dict[str, _Name]:
    """Match all tasks to different doubts, and keep the pairs that hold in every such matching.

    Empty when not all tasks can be matched: then one of them is a stranger's, and nobody knows which.
    """
    whole = _saturate(edges)
    if whole is None:
        return {}
    return {
        task_id: name
        for task_id, name in whole.items()
        if all(
            kind[other] == kind[name] or _saturate({**edges, task_id: {other}}) is None
            for other in edges[task_id]
        )
    }


def _saturate(edges: Mapping[str, set[_Name]]) -> dict[str, _Name] | None:
    """Give every task a doubt of its own, by augmenting paths (Kuhn); None when that is impossible."""
    holder: dict[_Name, str] = {}

    def place(task_id: str, tried: set[_Name]) -> bool:
        for name in sorted(edges[task_id] - tried):
            tried.add(name)
            if name not in holder or place(holder[name], tried):
                holder[name] = task_id
                return True
        return False

    if not all(place(task_id, set()) for task_id in edges):
        return None
    return {task_id: name for name, task_id in holder.items()}


def _same_prompt(ours: str | None, theirs: str) -> bool:
    return (ours or "")[:PROMPT_LIMIT].strip() == theirs[:PROMPT_LIMIT].strip()


def _near(billed: Decimal | None, *lengths: Decimal) -> bool:
    return billed is None or any(abs(billed - length) <= _SECONDS_APART for length in lengths)
