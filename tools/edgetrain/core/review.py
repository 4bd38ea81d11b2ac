"""Who proposed, reviewed and merged a change, by the forge: which approvals count, and what records keep of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgetrain.core.approval import LATE, MACHINE, OWN, STALE
from edgetrain.core.ports import Account, CheckResult, PullRequest, Review


@dataclass(frozen=True)
class Approval:
    """One person's standing approval; `why` is empty if it counts, else STALE (of an older head), OWN (the
    proposer's), MACHINE, or LATE (nobody waited for it)."""

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
    merged_at: str | None = None
    approvals: tuple[Approval, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)


def approvals(pull: PullRequest, reviews: Iterable[Review]) -> tuple[Approval, ...]:
    """Each reviewer's last word before the merge, where it is an approval; in the order of time.

    A comment does not take back an approval; asking for changes, or a dismissal, does. What is said after the merge
    changes nothing; an approval then is told where it is its author's first word.
    """
    last: dict[int, Review] = {}
    for review in sorted(reviews, key=lambda one: one.time):
        late = _late(pull.merged_at, review.time)
        if review.state != "commented" and not (late and review.account.id in last):
            last[review.account.id] = review
    standing = sorted((one for one in last.values() if one.state == "approved"), key=lambda one: one.time)
    return tuple(
        _judged(pull.author, pull.head, pull.merged_at, Approval(one.account, one.time, one.commit))
        for one in standing
    )


def _judged(proposer: Account, head: str, merged_at: str | None, one: Approval) -> Approval:
    if one.account.id == proposer.id:
        return replace(one, why=OWN)
    if one.account.bot:
        return replace(one, why=MACHINE)
    if _late(merged_at, one.time):
        return replace(one, why=LATE)
    return one if one.commit == head else replace(one, why=STALE)


def _late(merged_at: str | None, time: str) -> bool:
    return merged_at is not None and time > merged_at


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
        "mergedAt": pull.merged_at,
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
        merged_at = None if value["mergedAt"] is None else _text(value["mergedAt"])
        return Reviewed(
            host=_text(value["host"]),
            repository=_text(value["repository"]),
            pull_request=_number(value["pullRequest"]),
            head=head,
            proposer=proposer,
            merged_by=None if value["mergedBy"] is None else _account(value["mergedBy"]),
            merged_at=merged_at,
            approvals=tuple(_judged(proposer, head, merged_at, _approval(one)) for one in value["approvals"]),
            checks={_text(name): _text(end) for name, end in value["checks"].items()},
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("it is not the form of a review") from error


def _approval(value: Any) -> Approval:
    account = _account(value, bot=value["why"] == MACHINE)
    return Approval(account, _text(value["time"]), _text(value["commit"]))


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
