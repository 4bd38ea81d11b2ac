"""Checks of records beside each other: each that follows from a run names one that is there."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from edgetrain.core.codes import references as codes
from edgetrain.core.desired import Desired
from edgetrain.core.problem import Mark, Problem, problem, shown
from edgetrain.core.record import EvaluationRecord, ProposalRecord, ReleaseRecord, serialise
from edgetrain.core.recorded import Recorded

_Following = EvaluationRecord | ProposalRecord | ReleaseRecord


def check_records(desired: Desired, recorded: Recorded, broken: Collection[str]) -> Iterator[Problem]:
    """Every evaluation, proposal and release whose run record is not there. A run record that can't be read is told
    of itself, so nothing is said of what may follow from it."""
    unread = [path for path in broken if "/runs/" in path]
    every: list[_Following] = [*recorded.evaluations, *recorded.proposals, *recorded.releases]
    for record in every:
        if recorded.run(record.run) is None and not _may_be(desired, record, unread):
            what = f"there is no run record with the digest {shown(record.run, 80)}"
            column = serialise(record.data).index(b'"run":') + 1
            yield problem(codes.RECORD_OF_NO_RUN, record.path, Mark(1, column), what)


def _may_be(desired: Desired, record: _Following, unread: Collection[str]) -> bool:
    """Whether a run record that can't be read may be the one."""
    if not unread:
        return False
    if isinstance(record, EvaluationRecord):
        return record.path.rpartition(".evaluation-")[0] + ".json" in unread
    if isinstance(record, ProposalRecord):
        name = record.path.rpartition("/")[2].partition("-")[2].removesuffix(".json").partition(".")[0]
        return any(path.endswith(f"/{name}.json") for path in unread)
    version = desired.versions.get((record.model, record.version))
    return version is None or version.run_path in unread
