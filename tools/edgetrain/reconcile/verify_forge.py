"""Compares what records keep of pull requests with what the forge says of them now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from edgetrain.core.digest import digest_of
from edgetrain.core.errors import NotFound, ProviderError, Rejected, RepositoryError, UsageError
from edgetrain.core.kinds import ModelVersion
from edgetrain.core.ports import Check, CheckStatus, Forge, PullRequest, Review
from edgetrain.core.problem import shown
from edgetrain.core.review import Approval, Reviewed, approvals, read_review
from edgetrain.reconcile.hands import PASSING
from edgetrain.reconcile.reviews import MAX_CHECKS, bounded
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.state import State
from edgetrain.render.doctor import Part
from edgetrain.render.words import plural

MEND = "ask who wrote the record and who may change pull requests there: one of both was altered"


@dataclass
class _Kept:
    """One review as records keep it, of one merge; `paths` are the files that do."""

    review: Reviewed
    merge: str
    paths: list[str]


def forge_parts(state: State, versions: Sequence[ModelVersion] | None) -> Iterator[Part]:
    """A part a pull request that a record keeps: of the versions' own records, or (None) of all.

    Raises UsageError without a forge. What the forge does not show is a warning.
    """
    configuration = state.desired.configuration
    # The forge is the same from every site.
    forge = Site(configuration, next(iter(configuration.sites)), state.git.root).forge
    if forge is None:
        raise UsageError("there is no forge to compare with", fix="declare one in edgetrain.yaml: spec.forge")
    kept = sorted(_kept(state, versions), key=lambda one: (one.review.pull_request, one.merge, one.paths))
    asked: dict[int, _There | None] = {}
    for place, one in enumerate(kept):
        name = f"{one.review.repository}#{one.review.pull_request}"
        try:
            checks = tuple(_compared(state, forge, one, asked))
        except ProviderError as error:
            left = sum(len(other.paths) for other in kept[place:])
            what = f"{plural(left, 'file')} not compared, for the forge could not be asked: {error.message}"
            told = Check("review", CheckStatus.WARN, what, error.reason, error.fix or "verify again later")
            yield Part("forge", forge.repository, (told,))
            return
        yield Part("pull request", name, checks)
    if not kept:
        told = Check("review", CheckStatus.PASS, "no record keeps a pull request")
        yield Part("forge", forge.repository, (told,))


def _kept(state: State, versions: Sequence[ModelVersion] | None) -> list[_Kept]:
    """Every different review that a record or version keeps, with all that keep it."""
    recorded = state.recorded
    own = {version.record for version in versions or ()}
    mine = {(version.model, version.number) for version in versions or ()}
    every: list[tuple[str, Any]] = [
        (run.path, run.data["provenance"]) for run in recorded.runs if versions is None or run.digest in own
    ]
    every += [
        (release.path, release.data.get("provenance"))
        for release in recorded.releases
        if versions is None or (release.model, release.version) in mine
    ]
    shown_versions = state.desired.versions.values() if versions is None else versions
    every += [(version.document.path, version.spec.get("provenance")) for version in shown_versions]
    found: dict[str, _Kept] = {}
    for path, provenance in every:
        value = provenance.get("review") if isinstance(provenance, Mapping) else None
        try:
            review = read_review(value)
        except ValueError:
            continue  # none is kept; of a record's own the form was checked when it was read
        merge = str(provenance.get("mergeCommit") or "")
        one = found.setdefault(digest_of([value, merge]), _Kept(review, merge, []))
        one.paths.append(path)
    return list(found.values())


@dataclass(frozen=True)
class _There:
    """One pull request as the forge has it."""

    pull: PullRequest
    reviews: Sequence[Review]
    checks: Mapping[str, str]


def _compared(state: State, forge: Forge, one: _Kept, asked: dict[int, _There | None]) -> Iterator[Check]:
    review, where = one.review, _named(one.paths)
    if (review.host, review.repository.casefold()) != (forge.host, forge.repository.casefold()):
        what = f"{where}: recorded on {review.repository} at {review.host}, which is not the forge of now"
        yield Check("review", CheckStatus.WARN, shown(what, 500), "OtherForge", "compare it by hand")
        return
    if review.pull_request not in asked:
        asked[review.pull_request] = _look(forge, review.pull_request)
    there = asked[review.pull_request]
    if there is None:
        what = f"{where}: the forge shows no pull request {review.pull_request}"
        fix = "ask with a credential that may see it; a pull request is never deleted by itself"
        yield Check("review", CheckStatus.WARN, what, "PullRequestNotVisible", fix)
        return
    wrong = [*_facts(forge, one, there.pull), *_approvals(state, one, there), *_checks(one, there)]
    for what in wrong:
        yield Check("review", CheckStatus.FAIL, shown(f"{where}: {what}", 1000), "Mismatch", MEND)
    if review.checks and not there.checks:
        what = f"{where}: the forge keeps no checks of {review.head[:12]} any more"
        yield Check("review-checks", CheckStatus.WARN, what, "ChecksGone", "they are kept for a time only")
    if not wrong:
        yield Check("review", CheckStatus.PASS, f"{where}: as the forge tells it")


def _look(forge: Forge, number: int) -> _There | None:
    """What the forge has; None if it shows no such pull request. Raises ProviderError if it can't be asked."""
    try:
        pull = forge.pull_request(number)
        checks = {check.name: check.conclusion for check in bounded(forge.checks(pull.head))}
        return _There(pull, forge.reviews(number), checks)
    except NotFound:
        return None


def _named(paths: Sequence[str]) -> str:
    first = min(paths)
    return f"{first} and {len(paths) - 1} more" if len(paths) > 1 else first


def _facts(forge: Forge, one: _Kept, pull: PullRequest) -> Iterator[str]:
    review, merger = one.review, one.review.merged_by
    if pull.merged is None:
        yield f"pull request {pull.number} was never merged"
    elif pull.merged != one.merge and pull.number not in _brought(forge, one.merge):
        yield f"pull request {pull.number} did not bring {one.merge[:12]} to main"
    if review.head != pull.head:
        yield f"head {pull.head[:12]} was merged, recorded is {review.head[:12]}"
    # By number: a login may have changed hands since.
    if review.proposer.id != pull.author.id:
        yield f"{_who(pull.author.login, pull.author.id)} proposed it, recorded is {_told(review.proposer)}"
    if (merger.id if merger else None) != (pull.merged_by.id if pull.merged_by else None):
        by = _who(pull.merged_by.login, pull.merged_by.id) if pull.merged_by else "nobody"
        yield f"{by} merged it, recorded is {_told(merger) if merger else 'nobody'}"


def _brought(forge: Forge, commit: str) -> set[int]:
    """The pull requests that brought the commit: a rebase brings several."""
    try:
        return {pull.number for pull in forge.pull_requests_of(commit)}
    except (NotFound, Rejected):
        return set()  # the forge has no such commit


def _told(account: Any) -> str:
    return _who(account.login, account.id)


def _who(login: str, number: int) -> str:
    return f"{login} (account {number})"


def _approvals(state: State, one: _Kept, there: _There) -> Iterator[str]:
    """Recorded approvals that do not stand there, and those that stood and are not recorded.

    People go on reviewing after a merge; what came later than the merge and the last that is recorded decides
    nothing here.
    """
    recorded = {_key(approval): approval for approval in one.review.approvals}
    times = [approval.time for approval in one.review.approvals]
    with suppress(RepositoryError):  # cut off in a shallow clone
        times.append(state.git.commit_info(one.merge).committer.time)
    until = max(times, default="")
    then = {_key(a): a for a in approvals(there.pull, [r for r in there.reviews if r.time <= until])}
    now = {_key(a): a for a in approvals(there.pull, there.reviews)}
    for key in sorted(recorded.keys() - then.keys() - now.keys()):
        yield f"the approval {_approval(recorded[key])} does not stand there"
    for key in sorted((then.keys() & now.keys()) - recorded.keys()):
        yield f"the approval {_approval(now[key])} stands there and is not recorded"


def _key(approval: Approval) -> tuple[int, str, str, str]:
    return approval.account.id, approval.time, approval.commit, approval.why


def _approval(approval: Approval) -> str:
    counts = "counts" if approval.counts else approval.why
    return f"of {_told(approval.account)} at {approval.time} of {approval.commit[:12]} ({counts})"


def _checks(one: _Kept, there: _There) -> Iterator[str]:
    """Checks that ended otherwise than recorded. One that was not over then, or passed since, is none."""
    if not there.checks:
        return
    recorded = one.review.checks
    for name, end in recorded.items():
        if end and there.checks.get(name) != end:
            yield f"check {name} is {there.checks.get(name, 'absent') or 'not over'}, recorded is {end}"
    if len(recorded) < MAX_CHECKS:
        for name in sorted(there.checks.keys() - recorded.keys()):
            if there.checks[name] and there.checks[name] not in PASSING:
                yield f"check {name} is {there.checks[name]}, and is not recorded"
