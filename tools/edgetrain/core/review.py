"""Who proposed, reviewed and merged a change, by the forge: which approvals count, and what records keep of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Reviewed:
    """What a record keeps of a merged pull request, read back. `head` is the commit that was merged."""

    host: str
    repository: str
    pull_request: int
    head: str
    proposer: Account
    merged_by: Account | None
    approvals: tuple[Approval, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)


def approvals(pull: PullRequest, reviews: Iterable[Review]) -> tuple[Approval, ...]:
    """Each reviewer's last word, where it is an approval; in the order of time.

    A comment does not take back an approval; asking for changes, or a dismissal, does.
    """
    last: dict[int, Review] = {}
    for review in sorted(reviews, key=lambda one: one.time):
        if review.state != "commented":
            last[review.account.id] = review
    standing = sorted((one for one in last.values() if one.state == "approved"), key=lambda one: one.time)
    return tuple(
        Approval(one.account, one.time, one.commit, _why(pull.author, pull.head, one.account, one.commit))
        for one in standing
    )


def _why(proposer: Account, head: str, account: Account, commit: str) -> str:
    if account.id == proposer.id:
        return OWN
    if account.bot:
        return MACHINE
    return "" if commit == head else STALE


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


def read_review(value: Any) -> Reviewed:
    """What `review_json` wrote. Which approvals count is judged again, by the accounts' numbers; only who is a
    machine is taken from the record. Raises ValueError for another form."""
    try:
        head, proposer = _text(value["head"]), _account(value["proposer"])
        return Reviewed(
            host=_text(value["host"]),
            repository=_text(value["repository"]),
            pull_request=_number(value["pullRequest"]),
            head=head,
            proposer=proposer,
            merged_by=None if value["mergedBy"] is None else _account(value["mergedBy"]),
            approvals=tuple(_approval(proposer, head, one) for one in value["approvals"]),
            checks={_text(name): _text(end) for name, end in value["checks"].items()},
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("it is not the form of a review") from error


def _approval(proposer: Account, head: str, value: Any) -> Approval:
    account = _account(value, bot=value["why"] == MACHINE)
    commit = _text(value["commit"])
    return Approval(account, _text(value["time"]), commit, _why(proposer, head, account, commit))


def _account(value: Any, bot: bool = False) -> Account:
    return Account(_number(value["id"]), _text(value["login"]), bot)


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
