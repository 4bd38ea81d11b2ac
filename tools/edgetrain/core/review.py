"""Who proposed, reviewed and merged a change, by the forge: which approvals count, and what records keep of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgetrain.core.ports import Account, CheckResult, PullRequest, Review

STALE, OWN, MACHINE = "StaleReview", "OwnPullRequest", "Machine"


@dataclass(frozen=True)
class Approval:
    """One person's standing approval; `why` is empty if it counts, else STALE (of an older head), OWN (the
    proposer's) or MACHINE."""

    account: Account
    time: str
    commit: str
    why: str = ""

    @property
    def counts(self) -> bool:
        """Whether it stands for a second pair of eyes on what was merged."""
        return not self.why


def approvals(pull: PullRequest, reviews: Iterable[Review]) -> tuple[Approval, ...]:
    """Each reviewer's last word, where it is an approval; in the order of time.

    A comment does not take back an approval; asking for changes, or a dismissal, does.
    """
    last: dict[int, Review] = {}
    for review in sorted(reviews, key=lambda one: one.time):
        if review.state != "commented":
            last[review.account.id] = review
    standing = sorted((one for one in last.values() if one.state == "approved"), key=lambda one: one.time)
    return tuple(Approval(one.account, one.time, one.commit, _why(pull, one)) for one in standing)


def _why(pull: PullRequest, review: Review) -> str:
    if review.account.id == pull.author.id:
        return OWN
    if review.account.bot:
        return MACHINE
    return "" if review.commit == pull.head else STALE


def review_json(
    host: str,
    repository: str,
    pull: PullRequest,
    reviews: Sequence[Review],
    checks: Sequence[CheckResult],
) -> dict[str, Any]:
    """What records keep of a merged pull request, under `provenance.review`: numbers of accounts stay when logins
    change hands."""
    return {
        "host": host,
        "repository": repository,
        "pullRequest": pull.number,
        "head": pull.head,
        "proposer": _who(pull.author),
        "mergedBy": _who(pull.merged_by) if pull.merged_by else None,
        "approvals": [
            {**_who(one.account), "time": one.time, "commit": one.commit, "counts": one.counts, "why": one.why}
            for one in approvals(pull, reviews)
        ],
        "checks": {one.name: one.conclusion for one in sorted(checks, key=lambda one: one.name)},
    }


def _who(account: Account) -> dict[str, Any]:
    return {"id": account.id, "login": account.login}
