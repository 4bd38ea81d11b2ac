"""Recomputes what run records claim from the commits that the runs were made of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_bytes, digest_of
from edgetrain.core.errors import RepositoryError
from edgetrain.core.gate import GateStatus
from edgetrain.core.identity import fields
from edgetrain.core.kinds import Experiment, kind_at, parse
from edgetrain.core.kinds.experiment import LATEST
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.core.record import EvaluationRecord, Outcome, Record, Recorded, RunRecord
from edgetrain.core.review import read_review
from edgetrain.reconcile.reviews import approvers
from edgetrain.reconcile.state import State
from edgetrain.repo import reader, schema
from edgetrain.repo.history import Provenance, provenance, provenance_of
from edgetrain.repo.load import MAX_LOCK_BYTES
from edgetrain.repo.mainline import merged_by
from edgetrain.repo.objects import Commit
from edgetrain.repo.snapshot import code_digest
from edgetrain.repo.tree import CommitTree

UNTOLD = "HistoryCutOff"
PASSED = frozenset({GateStatus.PASSED.value, GateStatus.NO_REFERENCE.value})


@dataclass(frozen=True)
class Made:
    """What git held of an experiment at a commit; `experiment` is None for a form that can't be read any more."""

    on_main: bool
    manifest: str
    experiment: Experiment | None
    code: str | None = None
    lock: str | None = None


class Past:
    """Main's history as records refer to it. With `afresh` nothing that was remembered of it is believed."""

    def __init__(self, state: State, machines: Callable[[], frozenset[str]], afresh: bool = False) -> None:
        self._git, self._tip, self._afresh = state.git, state.commit, afresh
        self._machines = cache(machines)
        self._trees: dict[str, CommitTree] = {}
        self._made: dict[tuple[str, str], Made] = {}
        self.shallow = state.git.is_shallow()

    def made(self, commit: str, experiment: str) -> Made:
        """What the experiment was there: many runs are of one. Raises RepositoryError if this clone can't tell."""
        key = commit, experiment
        if key not in self._made:
            self._made[key] = self._look(commit, experiment)
        return self._made[key]

    def _tree(self, commit: str) -> CommitTree:
        if commit not in self._trees:
            cached = None if self._afresh else self._git.root / ".edgetrain" / "blobs.db"
            self._trees[commit] = CommitTree(self._git, self._git.resolve(commit), cache=cached)
        return self._trees[commit]

    def _look(self, commit: str, experiment: str) -> Made:
        tree, path = self._tree(commit), f"experiments/{experiment}/experiment.yaml"
        data = tree.read(path)
        found, on_main = read_experiment(data, path), tree.sha in self.commits
        if found is None:
            return Made(on_main, digest_bytes(data), None)
        lock = found.lock_path
        return Made(
            on_main,
            digest_bytes(data),
            found,
            _digest(lambda: code_digest(tree, found.code_folder)),
            None if lock is None else _digest(lambda: digest_bytes(tree.read(lock, MAX_LOCK_BYTES))),
        )

    def ahead(self, runs: Sequence[RunRecord]) -> None:
        """These runs are looked at next, each once; a few hundred at most."""
        manifests: dict[str, list[str]] = {}
        for run in runs:
            manifests.setdefault(run.data["commit"], []).append(f"experiments/{run.experiment}/experiment.yaml")
        for commit, paths in manifests.items():
            with contextlib.suppress(RepositoryError):  # told of each run
                self._tree(commit).ahead(paths)

    @cached_property
    def commits(self) -> frozenset[str]:
        """Every commit that led to main's tip, as far as this clone knows."""
        return frozenset(self._git.text("rev-list", self._tip).splitlines())

    @cached_property
    def _line(self) -> dict[str, tuple[Commit, list[Commit]]]:
        return merged_by(self._git, self._tip)

    def told(self, commit: str, behind: Mapping[str, Any]) -> bool | None:
        """Whether git tells the same of who proposed and approved what it brought; None if that is cut off."""
        machines = self._machines()
        if commit in self._line:
            found = provenance_of(*self._line[commit], self._git.boundary(), machines)
            if found.certain and _same_hands(found, behind):
                return True
        # Git's own order of what was merged has the last word.
        found = provenance(self._git, commit, machines)
        return _same_hands(found, behind) if found.certain else None


def _same_hands(found: Provenance, behind: Mapping[str, Any]) -> bool:
    if behind.get("proposer") != found.proposer:
        return False
    # Where a forge was asked, approvers are its, whatever trailers say.
    return behind.get("review") is not None or set(behind.get("approvers") or ()) <= set(found.approvers)


def held(name: str, what: str, right: bool, fix: str = "") -> Check:
    """A check that holds or does not."""
    if right:
        return Check(name, CheckStatus.PASS, what)
    mend = fix or "find the commit that changed it with `git log -- FILE`, and undo it by a new one on main"
    return Check(name, CheckStatus.FAIL, f"it does not hold that {what}", "Mismatch", mend)


def untold(name: str, what: str, reason: str, fix: str) -> Check:
    """A check that nobody can make here: no mismatch, and not well either."""
    return Check(name, CheckStatus.WARN, what, reason, fix)


def run_checks(run: RunRecord, past: Past) -> Iterator[Check]:
    """Whether the record agrees with itself, and follows from what git held when the run was started."""
    yield from _itself(run)
    commit = run.data["commit"]
    try:
        made = past.made(commit, run.experiment)
    except RepositoryError as error:
        what = f"{run.run_id}: its commit {commit[:12]} can't be read here: {error.message}"
        fix = "git fetch --unshallow, then verify again"
        if not past.shallow:
            fix = "ask for the history from before main was rewritten, and fetch that commit"
        yield untold("manifest", what, UNTOLD if past.shallow else "CommitGone", fix)
        return
    if not past.shallow:
        yield held("commit", f"{run.run_id} was made from a commit of main", made.on_main)
    if "manifest" in run.data:
        same = run.data["manifest"] == made.manifest
        yield held("manifest", f"{run.run_id} was made by the manifest of its commit", same)
    if made.experiment is None:
        what = f"{run.run_id}: its manifest is of a form that this version does not read"
        yield untold("code", what, "FormUnknown", "verify with the version of then")
        return
    of = run.data["identityOf"]
    yield held("code", f"{run.run_id} ran the code of its commit", of["code"] == made.code)
    yield held("lock", f"{run.run_id} had the packages of its commit", of["requirements"] == made.lock)
    odd = sorted(_odd_fields(run, made.experiment))
    told = f"{run.run_id} ran what its manifest asks for"
    yield held("identity-fields", told + (f" ({', '.join(odd)} differ)" if odd else ""), not odd)


def _itself(run: RunRecord) -> Iterator[Check]:
    data, of = run.data, run.data["identityOf"]
    yield held("identity", f"{run.run_id} has the identity of its fields", run.identity == digest_of(of))
    environment = {key: of.get(key) for key in ("requirements", "image", "python", "platform")}
    pairs = {
        "inputs": (run.input_digests, of["inputs"]),
        "parameters": (data["parameters"], of["parameters"]),
        "environment": (data["environment"], environment),
        "experiment": (run.experiment, of["experiment"]),
    }
    odd = sorted(name for name, (told, used) in pairs.items() if told != used)
    said = f"{run.run_id} tells of what its identity is made of"
    yield held("identity-told", said + (f" ({', '.join(odd)} differ)" if odd else ""), not odd)
    yield from gate_checks(run, run.metrics)


def gate_checks(record: RunRecord | EvaluationRecord, metrics: Mapping[str, float]) -> Iterator[Check]:
    """Whether the outcome follows from the gates' results, and those from the metrics."""
    results = [one for one in record.data["gates"]["results"] if isinstance(one, Mapping)]
    passed = all(one.get("status") in PASSED for one in results)
    outcome, reason = record.outcome, record.data.get("reason")
    right = outcome is not Outcome.CANDIDATE or passed
    right = right and not (outcome is Outcome.NOT_BETTER and reason == "GatesFailed" and passed)
    evaluation = record.data.get("evaluation") or {}
    right = right and all(_follows(one, metrics, evaluation) for one in results)
    yield held("gates", f"the outcome in {record.path} follows from its metrics and gates", right)


def _follows(result: Mapping[str, Any], metrics: Mapping[str, float], evaluation: Mapping[str, Any]) -> bool:
    """Whether one result is what its own numbers say, as far as it says by which rule; and those of its slice."""
    value, bound, metric = result.get("value"), result.get("bound"), str(result.get("metric"))
    part, rule = result.get("slice"), str(result.get("rule"))
    own = evaluation.get("slices", {}).get(part, {}) if part else metrics
    if value is not None and own.get(metric, value if not part else None) != value:
        return False
    if evaluation and rule.startswith("notWorseThan") and result.get("status") == GateStatus.PASSED.value:
        beside = evaluation["references"].get(rule.partition(" ")[2], {})
        scores = beside.get("slices", {}).get(part, {}) if part else beside.get("metrics", {})
        if metric not in scores:  # measured on nothing, or on other data
            return False
    if result.get("rule") not in ("min", "max") or value is None or bound is None:
        return True
    good = bool(value >= bound if result["rule"] == "min" else value <= bound)
    return (result.get("status") == GateStatus.PASSED.value) == good


def _odd_fields(run: RunRecord, experiment: Experiment) -> Iterator[str]:
    """Parts of the identity that are not as the manifest of its commit has them."""
    of = run.data["identityOf"]
    trial = run.data.get("trial")
    wanted = fields(
        experiment,
        trial if isinstance(trial, Mapping) else {},
        code=of["code"],
        requirements=of["requirements"],
        inputs=of["inputs"],
        python=experiment.environment.python or of["python"],
        platform=experiment.environment.platform or of["platform"],
    )
    yield from (key for key in wanted.keys() | of.keys() if wanted.get(key) != of.get(key))
    pinned = {name: source.digest for name, source in experiment.data.items()}
    if pinned.keys() != of["inputs"].keys() or any(
        digest not in (LATEST, of["inputs"][name]) for name, digest in pinned.items()
    ):
        yield "inputs"


def review_checks(record: Record, past: Past) -> Iterator[Check]:
    """Whether the record names who stands behind it as git and its own review tell."""
    behind = record.data.get("provenance") or {}
    kept, merge = behind.get("review"), behind.get("mergeCommit")
    if kept is not None:
        right = [(one.counts, one.why) for one in read_review(kept).approvals]
        told = [(one.get("counts"), one.get("why")) for one in kept["approvals"]]
        named = behind.get("approvers") == approvers(kept)
        what = f"{record.path} counts and names the approvals that count"
        yield held("review", what, right == told and named)
    if not isinstance(merge, str):
        return
    if merge not in past.commits:
        if past.shallow:
            what = f"{record.path}: who proposed commit {merge[:12]} can't be told, for history is cut off"
            yield untold("provenance", what, UNTOLD, "git fetch --unshallow, then verify again")
        else:
            yield held("provenance", f"{record.path} names a merge that is in main's history", False)
        return
    same = past.told(merge, behind)
    if same is None:
        what = f"{record.path}: what commit {merge[:12]} merged is cut off"
        yield untold("provenance", what, UNTOLD, "git fetch --unshallow, then verify again")
    else:
        yield held("provenance", f"{record.path} names who proposed and approved {merge[:12]}", same)


def reference_checks(recorded: Recorded, desired: Desired, models: set[str] | None) -> Iterator[Check]:
    """Whether what records refer to is there; of some models, or (None) of all."""

    def mine(model: str) -> bool:
        return models is None or model in models

    for evaluation in recorded.evaluations:
        run = recorded.run(evaluation.run)
        if run is None:
            if models is None:
                yield held("reference", f"the run record that {evaluation.path} judges is there", False)
        elif mine(run.model):
            stem, number = run.path.removesuffix(".json"), evaluation.data["number"]
            beside = evaluation.path == f"{stem}.evaluation-{number}.json"
            yield held("reference", f"{evaluation.path} lies beside the run record that it judges", beside)
            told = evaluation.data.get("metrics")
            same = evaluation.data.get("metricsSource") == run.data["metricsSource"] == "self-reported"
            yield from gate_checks(evaluation, told if isinstance(told, dict) else run.metrics if same else {})
    proposals = {proposal.digest: proposal for proposal in recorded.proposals}
    for proposal in filter(lambda one: mine(one.model), recorded.proposals):
        run, before = recorded.run(proposal.run), proposal.data.get("supersedes")
        stem = f"models/{proposal.model}/proposals/{proposal.version}-"
        name = f"{run.identity.removeprefix('sha256:')[:12]}-{run.attempt}.json" if run else ""
        right = run is not None and run.model == proposal.model and proposal.path == stem + name
        yield held("reference", f"{proposal.path} proposes a run record that is there", right)
        if before is not None:
            old = proposals.get(before)
            same = old is not None and (old.model, old.version) == (proposal.model, proposal.version)
            yield held("reference", f"{proposal.path} takes the place of a proposal of its number", same)
    counts: dict[tuple[str, int], list[int]] = {}
    for release in filter(lambda one: mine(one.model), recorded.releases):
        counts.setdefault((release.model, release.version), []).append(int(release.data["number"]))
        if (release.model, release.version) not in desired.versions:
            yield held("reference", f"the version that {release.path} tells of is there", False)
    for (model, version), numbers in sorted(counts.items()):
        whole = sorted(numbers) == list(range(1, len(numbers) + 1))
        yield held("reference", f"the release records of {model}@{version} are numbered without a gap", whole)


def _digest(compute: Callable[[], str]) -> str | None:
    """None where git does not hold it: then it is no digest of a record."""
    try:
        return compute()
    except RepositoryError:
        return None


def read_experiment(data: bytes, path: str) -> Experiment | None:
    """The experiment of a manifest's bytes; None if this version does not read it."""
    document, problems = reader.read(data, path)
    kind = kind_at(path)
    if document is None or kind is None or problems or schema.check(document, kind.name):
        return None
    found = parse(document, kind)
    return found if isinstance(found, Experiment) else None
