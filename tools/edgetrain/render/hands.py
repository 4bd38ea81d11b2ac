"""Who proposed, approved, checked and merged a change, in words: shared by audits, logs and lists of models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgetrain.core.approval import LATE, MACHINE, OWN, STALE

NOBODY = "not known"
WHY = {
    STALE: "it is of an older head than the one that was merged",
    OWN: "it is the proposer's own",
    MACHINE: "it is a machine's",
    LATE: "it came after the merge",
}


@dataclass(frozen=True)
class Account:
    """An account of the forge; its number stays when the login changes hands."""

    id: int
    login: str


@dataclass(frozen=True)
class Approval:
    """One approval of a pull request: of the commit, at the time. `why` says why it does not count."""

    id: int
    login: str
    time: str
    commit: str
    counts: bool
    why: str


@dataclass(frozen=True)
class Review:
    """The merged pull request behind a change, as the forge told it to the machine that wrote the record."""

    host: str
    repository: str
    pull_request: int
    head: str
    proposer: Account
    merged_by: Account | None
    approvals: tuple[Approval, ...]
    checks: Mapping[str, str]


@dataclass(frozen=True)
class Hand:
    """Who stands behind a change of main. Names are `name <email>`; None where nobody knows."""

    proposer: str | None = None
    approvers: tuple[str, ...] = ()
    merge_commit: str | None = None
    pull_request: str | None = None
    time: str | None = None
    certain: bool = True
    review: Review | None = None


@dataclass(frozen=True)
class Doubt:
    """One thing that a reader should know before trusting the rest; `name` is stable."""

    name: str
    what: str


def hand_rows(hand: Hand) -> list[tuple[str, str]]:
    """All that is known of who stands behind a change, as labels and facts."""
    review = hand.review
    if review is None:
        rows = [("proposed by", hand.proposer or NOBODY), ("approved by", ", ".join(hand.approvers) or NOBODY)]
    else:
        rows = list(_reviewed(review, hand))
    rows.append(("merge commit", hand.merge_commit or NOBODY))
    if review is None and hand.pull_request:
        rows.append(("pull request", hand.pull_request))
    if hand.time:
        rows.append(("merged", hand.time))
    if not hand.certain:
        rows.append(("history", "cut off here (shallow clone): there may be more to it"))
    return rows


def _reviewed(review: Review, hand: Hand) -> Iterator[tuple[str, str]]:
    where = f"{review.repository}#{review.pull_request} on {review.host}"
    yield "pull request", f"{where}, merged at head {review.head}"
    yield "proposed by", f"{account(review.proposer)}; in git {hand.proposer or NOBODY}"
    for one in review.approvals:
        yield "approved by", approval(one)
    if not review.approvals:
        yield "approved by", "nobody"
    yield "merged by", account(review.merged_by) if review.merged_by else NOBODY
    yield "checks", checks(review)


def account(one: Account) -> str:
    """`dana (account 101)`."""
    return f"{one.login} (account {one.id})"


def approval(one: Approval) -> str:
    """Who, when, of which commit, and whether it counts."""
    counts = "counts" if one.counts else f"does not count: {WHY.get(one.why, one.why)}"
    return f"{one.login} (account {one.id}) at {one.time}, of {one.commit}; {counts}"


def checks(review: Review) -> str:
    """Each check and how it ended."""
    return ", ".join(f"{name}: {end or 'not over'}" for name, end in review.checks.items()) or "none"


def proposer(hand: Hand) -> str:
    """Who proposed it, in a word."""
    return hand.review.proposer.login if hand.review else hand.proposer or NOBODY


def approvers(hand: Hand) -> str:
    """Who approved it so that it counts, in a word; those whose approval does not count are told as such."""
    if hand.review is None:
        return ", ".join(hand.approvers) or NOBODY
    told = [one.login if one.counts else f"{one.login} (does not count)" for one in hand.review.approvals]
    return ", ".join(told) or "nobody"


def merger(hand: Hand) -> str:
    """Who merged it, in a word."""
    return hand.review.merged_by.login if hand.review and hand.review.merged_by else NOBODY
