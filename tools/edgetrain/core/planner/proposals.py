"""Plans proposals: which candidate becomes a model version, under which number."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from edgetrain.core.desired import Desired
from edgetrain.core.kinds import Model
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Change, Difference, Effect, Operation
from edgetrain.core.planner.wanted import Wanted
from edgetrain.core.record import Outcome, RunRecord
from edgetrain.core.recorded import Recorded

BRANCH_PREFIX = "edgetrain/proposal/"


def proposal_branch(model: str, number: int) -> str:
    """The machine's branch of a proposal."""
    return f"{BRANCH_PREFIX}{model}-{number}"


def number_of(branch: str, model: str) -> int:
    """The version's number that a branch proposes of the model; 0 if it is no proposal of that: people may push to
    these branches."""
    found = re.fullmatch(re.escape(f"{BRANCH_PREFIX}{model}-") + r"([1-9][0-9]{0,8})", branch)
    return int(found[1]) if found else 0


def plan_proposals(
    desired: Desired,
    recorded: Recorded,
    wanted: Sequence[Wanted],
    runs: Sequence[Change],
    observed: Observation | None,
    refused: Collection[str],
) -> Iterator[Change]:
    """At most one proposal a model: of a candidate that waits for it, or what may follow from planned runs."""
    busy = {change.id for change in runs}
    doubtful = {change.subject.get("record") for change in runs}  # what is to be judged again
    coming: dict[str, list[str]] = {}
    for change in runs:
        if change.operation is not Operation.CANCEL:
            coming.setdefault(change.subject["model"], []).append(change.id)
    by_model: dict[str, list[Wanted]] = {}
    for want in wanted:
        by_model.setdefault(want.experiment.model, []).append(want)
    for name, model in sorted(desired.models.items()):
        if f"model/{name}" in refused or name not in by_model:  # nothing is wanted of a retired one
            continue
        number = desired.latest_version(name) + 1
        candidate = newest_candidate(by_model[name], busy, recorded)
        if candidate and candidate.digest in doubtful:  # what it was judged by holds no more
            candidate = None
        if candidate and _overtaken(desired, recorded, candidate, name):
            candidate = None
        if candidate and _unproposed(desired, recorded, candidate, name, number, observed):
            yield _proposal(model, number, candidate, recorded, observed)
            continue
        if name in coming:
            yield Change(
                id=f"proposal/{name}@{number}",
                operation=Operation.PROPOSE,
                effect=Effect.CREATE,
                reason="IfGatesPass",
                subject={"model": name, "version": number},
                after=tuple(coming[name]),
                conditional=True,
            )


def plan_closings(
    desired: Desired, recorded: Recorded, planned: Sequence[Change], observed: Observation | None
) -> Iterator[Change]:
    """The open proposals that nobody could merge: their run is no candidate any more. One whose run is judged
    again by what is `planned`, or whose place another takes, is left to that."""
    judged = {change.subject.get("record") for change in planned}
    taken = {change.subject.get("branch") for change in planned}
    for branch, digest in sorted(observed.proposals.items()) if observed else ():
        run = recorded.run(digest)
        if run is None or digest in judged or branch in taken or recorded.outcome(run) is Outcome.CANDIDATE:
            continue
        number = number_of(branch, run.model)
        if not number or desired.cites(digest):
            continue
        yield Change(
            id=f"closing/{run.model}@{number}",
            operation=Operation.CLOSE,
            effect=Effect.CREATE,
            reason="NoCandidate",
            subject={"model": run.model, "run": run.run_id, "record": digest, "branch": branch},
        )


def newest_candidate(mine: Sequence[Wanted], busy: Collection[str], recorded: Recorded) -> RunRecord | None:
    """The newest candidate among a model's wanted runs; `busy` has the keys of those to be trained or adopted.

    A sweep speaks when all its trials are settled, with its best one.
    """
    unfinished = {want.experiment.name for want in mine if want.key in busy or want.last is None}
    found: list[tuple[int, RunRecord]] = []
    for want in mine:
        run = want.last
        if run is None or recorded.outcome(run) is not Outcome.CANDIDATE:
            continue
        if want.experiment.sweep and want.experiment.name in unfinished:
            continue
        found.append((_judged(recorded, run), run))
    if not found:
        return None
    newest = max(found, key=lambda pair: pair[0])[1]
    sweep = next(w.experiment.sweep for w in mine if w.experiment.name == newest.experiment)
    if sweep is None:
        return newest
    trials = [run for _, run in found if run.experiment == newest.experiment]
    return max(trials, key=lambda run: (_good(run.reported.get(sweep.metric), sweep.goal), run.identity))


def _good(metric: float | None, goal: str) -> float:
    """The more, the better; a trial that does not tell it is the worst."""
    if metric is None:
        return float("-inf")
    return metric if goal == "maximize" else -metric


def _judged(recorded: Recorded, run: RunRecord) -> int:
    """Where in history the run was last judged."""
    verdict = recorded.evaluation(run)
    return verdict.ordinal if verdict else run.ordinal


def _overtaken(desired: Desired, recorded: Recorded, run: RunRecord, model: str) -> bool:
    """Whether a newer run of another experiment was put forward already: an older candidate never comes back."""
    digests = {proposal.run for proposal in recorded.proposals if proposal.model == model}
    digests |= {desired.versions[model, number].record for number in desired.numbers(model)}
    others = [other for other in map(recorded.run, digests) if other and other.experiment != run.experiment]
    mine = _judged(recorded, run)
    return run.digest not in digests and any(_judged(recorded, other) > mine for other in others)


def _unproposed(
    desired: Desired,
    recorded: Recorded,
    run: RunRecord,
    model: str,
    number: int,
    observed: Observation | None,
) -> bool:
    if desired.cites(run.digest):
        return False
    made = [proposal for proposal in recorded.proposals if proposal.run == run.digest]
    if not made:
        return True
    # A proposal that was made and is not open any more was closed by people, and stays closed. One that is
    # open under a number which is taken by now moves on to the next number.
    last = made[-1]
    is_open = observed is not None and observed.proposals.get(proposal_branch(model, last.version)) == run.digest
    return is_open and last.version != number


def _proposal(
    model: Model, number: int, run: RunRecord, recorded: Recorded, observed: Observation | None
) -> Change:
    branch = proposal_branch(model.name, number)
    other = observed.proposals.get(branch, "") if observed else ""
    if other == run.digest:
        other = ""
    earlier = recorded.run(other)
    return Change(
        id=f"proposal/{model.name}@{number}",
        operation=Operation.PROPOSE,
        effect=Effect.CREATE,
        reason="NewerCandidate" if other else "CandidateFound",
        differences=(Difference("run", earlier.run_id if earlier else other, run.run_id),) if other else (),
        subject={
            "model": model.name,
            "version": number,
            "run": run.run_id,
            "record": run.digest,
            "release": model.release,
            "branch": branch,
        },
    )
