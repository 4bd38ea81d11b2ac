"""Comments on a pull request from the report of its check: an artifact of a job that strangers may have written."""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from edgetrain.core.attention import ORDER, of_paths
from edgetrain.core.errors import NotFound, Rejected, UsageError
from edgetrain.core.kinds import Configuration
from edgetrain.core.ports import Forge, PullRequest, WorkflowRun
from edgetrain.core.ports.forge import MOST_FILES
from edgetrain.core.problem import shown
from edgetrain.reconcile.judge import CONFIGURATION, manifest_of
from edgetrain.reconcile.pull_request_report import MOST_OF_ONE
from edgetrain.reconcile.site import Site
from edgetrain.render.pull_request import comment_parts, unbelieved_parts
from edgetrain.repo.git import Git

ARTIFACT = "edgetrain-report"
EVENT = "pull_request"
CANCELLED = "cancelled"
MARK = "plan"
MOST_ZIPPED = 2**20
MOST_BYTES = 4 * 2**20
MOST_DEEP = 12
MOST_DIGITS = 17

_MEMBER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.json")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1


def comment(root: Path, run: int) -> PullRequest | None:
    """Ensure the comment that the run's report asks for; the pull request that it is on. None where a newer run
    took this one's place.

    Only what the forge says is believed of whose report it is. Raises Rejected for a report that is not of this
    pull request, of its newest commit, or not a report at all, and NotFound where there is none; the pull request
    then has a comment that says so, with what the forge alone tells. ProviderError as the forge.
    """
    forge = forge_of(root)
    found = forge.workflow_run(run)
    if found.event != EVENT:
        raise _rejected("OtherEvent", f"run {run} was woken by {shown(found.event)}, not by {EVENT}")
    try:
        return _comment(forge, found)
    except (NotFound, Rejected) as error:
        warned = [pull for pull in forge.pull_requests_at(found) if _warn(forge, found, pull, error.message)]
        if found.conclusion == CANCELLED and not warned:
            return None
        raise


def _comment(forge: Forge, run: WorkflowRun) -> PullRequest:
    report = read_report(forge.artifact(run.id, ARTIFACT, MOST_ZIPPED))
    pull = _pull_request(forge, run, report)
    changed = forge.changed_files(pull.number)
    _pull_request(forge, run, report)  # pushed to meanwhile, its files would be those of another head
    told = attention(report["attention"], changed)
    parts = comment_parts(
        {**report, "attention": told, "notes": _notes(report, changed)},
        own_workflows=any(one["reason"] == "WorkflowsChanged" for one in told),
        untold=len(changed) >= MOST_FILES,
    )
    forge.comment(pull.number, MARK, parts)
    return pull


def _warn(forge: Forge, run: WorkflowRun, pull: PullRequest, why: str) -> bool:
    """Say that there is no report to believe, in the place of what was said of an earlier head. Whether it was: of
    a cancelled run only where the pull request may have seen to that itself."""
    changed = forge.changed_files(pull.number)
    told = attention((), changed)
    own = any(one["reason"] == "WorkflowsChanged" for one in told)
    untold = len(changed) >= MOST_FILES
    if run.conclusion == CANCELLED and not own and not untold:
        return False
    if not forge.pull_request(pull.number).is_of(run):
        return False
    parts = unbelieved_parts(pull.number, pull.head, why, told, own_workflows=own, untold=untold)
    forge.comment(pull.number, MARK, parts)
    return True


def forge_of(root: Path) -> Forge:
    """The forge that the checked-out commit declares. Raises UsageError if it declares none."""
    git = Git.find(root)
    configuration = manifest_of(git.show(git.head(), CONFIGURATION), CONFIGURATION)
    if not isinstance(configuration, Configuration):
        raise UsageError(f"{CONFIGURATION} of the checkout can't be read", fix="run edgetrain validate")
    forge = Site(configuration, next(iter(configuration.sites)), git.root).forge
    if forge is None:
        raise UsageError(f"{CONFIGURATION} declares no forge", fix="declare it: spec.forge")
    return forge


def _pull_request(forge: Forge, run: WorkflowRun, report: Mapping[str, Any]) -> PullRequest:
    """The pull request that the report names, if it is the one that the run was for."""
    number = report["number"]
    try:
        pull = forge.pull_request(number)
    except NotFound:
        raise _rejected("OtherPullRequest", f"there is no pull request {number}") from None
    if report["head"] != run.head:
        raise _rejected("OtherHead", f"the report is of {report['head'][:12]}, and its run of {run.head[:12]}")
    if not pull.is_of(run):
        raise _rejected(
            "OtherPullRequest",
            f"pull request {number} is at {pull.head[:12]}, and the run was for {run.head[:12]}",
            "nothing, if it was pushed to meanwhile: the newer run comments",
        )
    if pull.base != forge.branch:  # its check is that branch's, whatever workflows it has
        raise _rejected(
            "OtherBase",
            f"pull request {number} is not into {forge.branch}",
            "nothing: nothing of it is done before it comes there",
        )
    if not pull.open:
        raise _rejected("Closed", f"pull request {number} is not open any more", "nothing: it needs no comment")
    return pull


def attention(told: Sequence[Mapping[str, Any]], changed: Sequence[str]) -> list[Mapping[str, Any]]:
    """What the report warns of, and what it should: the names of the changed files are the forge's word."""
    found = {one["reason"]: one for one in told}
    for one in of_paths(("M", path) for path in changed):
        own = found.get(one.reason, {"differences": []})
        found[one.reason] = {
            "reason": one.reason,
            "paths": [shown(path, 500) for path in one.paths[:MOST_OF_ONE]],
            "count": len(one.paths),
            "differences": own["differences"],
        }
    rank = {reason: place for place, reason in enumerate(ORDER)}
    return sorted(found.values(), key=lambda one: (rank.get(one["reason"], len(rank)), one["reason"]))


def _notes(report: Mapping[str, Any], changed: Sequence[str]) -> list[str]:
    more = f"the forge tells no more than {MOST_FILES} changed files, so a warning may be missing"
    return [*report["notes"], *([more] if len(changed) >= MOST_FILES else [])]


# --- the artifact --------------------------------------------------------------------------------------------


def read_report(data: bytes) -> dict[str, Any]:
    """The report in the artifact's bytes. Raises Rejected if it is anything else, or larger than a report."""
    report = _parsed(_member(data))
    error = next(islice(_schema().iter_errors(report), 1), None)
    if error is not None:
        place = "/".join(shown(step, 40) for step in islice(error.absolute_path, 10))
        raise _rejected("NotAReport", f"the report does not hold to its schema at {place or 'its top'}")
    found: dict[str, Any] = report
    return found


def _member(data: bytes) -> bytes:
    """The one file of the zip. Its name is looked at, and never used."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) != 1:
                raise _rejected("NotAReport", f"the artifact has {len(members)} files, and a report is one")
            (member,) = members
            if not _MEMBER.fullmatch(member.orig_filename):
                raise _rejected("NotAReport", f"the artifact's file has the name {shown(member.orig_filename)}")
            if member.compress_type not in _METHODS or member.flag_bits & _ENCRYPTED:
                raise _rejected("NotAReport", "the artifact is packed in a way that no report is")
            if member.file_size > MOST_BYTES:
                raise _too_large()
            with archive.open(member) as file:
                content = file.read(MOST_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise _rejected("NotAReport", f"the artifact is no sound zip: {type(error).__name__}") from None
    if len(content) > MOST_BYTES:
        raise _too_large()
    return content


def _parsed(content: bytes) -> Any:
    try:
        text = content.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_count)
        _check_depth(value)
    except (ValueError, RecursionError) as error:
        raise _rejected("NotAReport", f"the report is not JSON as it must be: {shown(error, 200)}") from None
    return value


def _check_depth(value: Any) -> None:
    """What is nested deep could end who looks at it, or shows it."""
    level = [value]
    for _ in range(MOST_DEEP):
        level = [
            item
            for held in level
            if isinstance(held, dict | list)
            for item in (held.values() if isinstance(held, dict) else held)
        ]
    if level:
        raise ValueError("it is nested too deep")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _count(digits: str) -> int:
    """A number that every reader can turn into another sort of number."""
    if len(digits) > MOST_DIGITS:
        raise ValueError("a number has too many digits")
    return int(digits)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


@cache
def _schema() -> Any:
    from edgetrain.repo.dialect import validator

    text = (resources.files("edgetrain") / "schemas" / "report.schema.json").read_text(encoding="utf-8")
    return validator(json.loads(text))


def _too_large() -> Rejected:
    return _rejected("TooLarge", f"the report has more than {MOST_BYTES} bytes")


def _rejected(
    reason: str, message: str, fix: str = "look at the workflow run before you trust its check"
) -> Rejected:
    return Rejected(message, reason=reason, fix=fix)
