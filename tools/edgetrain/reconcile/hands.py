"""Who stands behind a change of main, as history or a record tells it, and what of that leaves doubts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from edgetrain.core.approval import LATE, MACHINE, OWN, STALE
from edgetrain.reconcile.state import State
from edgetrain.render.hands import Account, Approval, Doubt, Hand, Review
from edgetrain.repo.history import MAX_COMMITS_MERGED, Provenance, provenance, provenance_of
from edgetrain.repo.mainline import merged_by
from edgetrain.repo.readings import HANDS, Readings

# Two questions to git for each of them cost less than one for all.
ONE_BY_ONE = 4
PASSING = frozenset({"success", "neutral", "skipped"})
_NUMBERED = re.compile(r"<([0-9]{1,20})\+[^@>]+@users\.noreply\.[^@>]+>$")


def hand_of(state: State, commit: str, machine: str) -> Hand:
    """Who stands behind a commit of main, as history tells it."""
    return _hand(provenance(state.git, commit, machines=[machine]))


def hands_of(
    state: State, commits: Iterable[str], machine: str, readings: Readings | None = None
) -> Mapping[str, Hand]:
    """`hand_of` of each of main's commits; those that `readings` know are not looked for."""
    wanted, cut = set(commits), state.git.boundary()
    mark = (machine, *sorted(cut), *state.git.grafts())
    found: dict[str, Hand] = {}
    for sha in wanted if readings else ():
        if readings and (before := readings.get(HANDS, sha, mark)) is not None:
            found[sha] = Hand(*before)
    new = wanted - found.keys()
    found |= _looked_for(state, new, machine, cut)
    for sha in new if readings else ():
        hand = found[sha]
        told = (hand.proposer, hand.approvers, hand.merge_commit, hand.pull_request, hand.time, hand.certain)
        if readings:
            readings.put(HANDS, sha, mark, partial(tuple, told))
    return found


def _looked_for(state: State, commits: Collection[str], machine: str, cut: Collection[str]) -> dict[str, Hand]:
    # What merged nothing tells all by itself, if it was read on the way.
    alone = {sha: one for sha in commits if (one := state.commits.get(sha)) is not None and len(one.parents) < 2}
    found = {sha: _hand(provenance_of(commit, (), cut, [machine])) for sha, commit in alone.items()}
    others = [sha for sha in commits if sha not in alone]
    # Of a few, git is asked one by one; of more, for the whole line at once.
    line = merged_by(state.git, state.commit) if len(others) > ONE_BY_ONE else {}
    for sha in others:
        if sha in line:
            commit, brought = line[sha]
            found[sha] = _hand(provenance_of(commit, brought[:MAX_COMMITS_MERGED], cut, [machine]))
        else:
            found[sha] = hand_of(state, sha, machine)
    return found


def _hand(found: Provenance) -> Hand:
    return Hand(found.proposer, found.approvers, found.merge_commit, found.pull_request, found.time, found.certain)


def recorded_hand(value: Mapping[str, Any]) -> Hand:
    """Who stands behind something, as its record's `provenance` repeats it."""
    return Hand(
        proposer=value.get("proposer"),
        approvers=tuple(value.get("approvers") or ()),
        merge_commit=value.get("mergeCommit"),
        pull_request=value.get("pullRequest"),
        review=_review(told) if (told := value.get("review")) is not None else None,
    )


def _review(value: Any) -> Review | None:
    from edgetrain.core.review import read_review  # here: most records have none

    try:
        found = read_review(value)
    except ValueError:
        return None  # none is kept; a record's own form was checked when it was read
    merger = found.merged_by
    return Review(
        host=found.host,
        repository=found.repository,
        pull_request=found.pull_request,
        head=found.head,
        proposer=Account(found.proposer.id, found.proposer.login),
        merged_by=Account(merger.id, merger.login) if merger else None,
        approvals=tuple(
            Approval(one.account.id, one.account.login, one.time, one.commit, one.counts, one.why)
            for one in found.approvals
        ),
        checks=dict(sorted(found.checks.items())),
    )


def hand_doubts(what: str, hand: Hand) -> Iterator[Doubt]:
    """Why a reader should not take `what` for seen by a second pair of eyes. Numbers of accounts count where a
    record has them: a name in git is what its writer says."""
    if hand.review is not None:
        yield from _review_doubts(what, hand.review)
        yield from _writer_doubts(what, hand.review, hand.proposer or "")
    elif not hand.approvers:
        yield Doubt("ApproverUnknown", f"nothing in git says who approved the {what}")
    elif hand.proposer and {_address(hand.proposer)} == {_address(name) for name in hand.approvers}:
        yield Doubt("SelfApproved", f"the {what} was approved by its own proposer alone, {hand.proposer}")


def _review_doubts(what: str, review: Review) -> Iterator[Doubt]:
    where = f"pull request {review.pull_request}"
    if not any(one.counts for one in review.approvals):
        by: dict[str, list[str]] = {}
        for one in review.approvals:
            by.setdefault(one.why, []).append(one.login)
        if logins := by.get(STALE):
            told = f"{', '.join(logins)} approved an older head of {where} than the one that was merged"
            yield Doubt("StaleApproval", f"nobody approved the {what} as it was merged: {told}")
        if logins := by.get(OWN):
            own = f"the {what} was approved by its own proposer, {', '.join(logins)}, in {where}"
            yield Doubt("SelfApproved", own)
        if logins := by.get(LATE):
            told = f"{', '.join(logins)} approved {where} after the merge"
            yield Doubt("LateApproval", f"nobody approved the {what} before it was merged: {told}")
        if logins := by.get(MACHINE):
            yield Doubt("MachineApproved", f"the {what} was approved by a machine, {', '.join(logins)}, in {where}")
        if not review.approvals:
            yield Doubt("NotApproved", f"nobody approved the {what}: {where} was merged without a review")
    failed = [f"{name} {end or 'not over'}" for name, end in sorted(review.checks.items()) if end not in PASSING]
    if failed:
        told = f"the {what} was merged with checks that had not passed: {', '.join(failed)}"
        yield Doubt("ChecksNotPassed", told)


def _writer_doubts(what: str, review: Review, writer: str) -> Iterator[Doubt]:
    """Whether its only approver wrote it: people may add commits to a pull request that a machine opened. Told
    where the address in git is the forge's own, with the account's number."""
    known = _NUMBERED.search(writer)
    if known and {str(one.id) for one in review.approvals if one.counts} == {known[1]}:
        wrote = f"{writer.partition(' <')[0]}, who wrote a commit of pull request {review.pull_request}"
        yield Doubt("SelfApproved", f"the {what} was approved alone by {wrote}")


def release_doubts(experiment: Hand, version: Hand) -> Iterator[Doubt]:
    """Whether those who approved a version are none but who proposed the experiment: the machine in between is no
    second pair of eyes."""
    if experiment.review is None or version.review is None:
        return
    proposer = experiment.review.proposer
    if {one.id for one in version.review.approvals if one.counts} == {proposer.id}:
        what = f"the version was approved alone by {proposer.login}, who proposed its experiment"
        yield Doubt("SelfApproved", what)


def _address(person: str) -> str:
    """The e-mail of `name <email>`, else the whole text; one person may write the name in two ways."""
    _, _, rest = person.rpartition("<")
    return rest.removesuffix(">").strip().casefold() or person.casefold()
