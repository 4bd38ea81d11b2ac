"""Recomputes what run records claim from the commits that the runs were made of."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, TypeVar

from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_bytes, digest_of
from edgetrain.core.errors import RepositoryError
from edgetrain.core.identity import fields
from edgetrain.core.kinds import Experiment, kind_at, parse
from edgetrain.core.kinds.experiment import LATEST
from edgetrain.core.ports import Check
from edgetrain.core.record import Record, RunRecord
from edgetrain.core.recorded import Recorded
from edgetrain.core.review import read_review
from edgetrain.core.snapshot import Snapshot
from edgetrain.reconcile.reviews import approvers
from edgetrain.reconcile.state import State
from edgetrain.reconcile.verify_asked import Demands
from edgetrain.reconcile.verify_checks import LACKING, UNSHALLOW, UNTOLD, held, untold
from edgetrain.reconcile.verify_facts import facts_checks
from edgetrain.reconcile.verify_judged import Judgements
from edgetrain.repo import reader, schema
from edgetrain.repo.git import WHOLE
from edgetrain.repo.history import Provenance, provenance, provenance_of
from edgetrain.repo.load import MAX_LOCK_BYTES
from edgetrain.repo.mainline import merged_by
from edgetrain.repo.objects import Commit
from edgetrain.repo.snapshot import snapshot
from edgetrain.repo.tree import CommitTree, Entry, Tree

_Found = TypeVar("_Found")
# Why an object of a commit that is here can't be read: git lacks it, or ended over it.
NOT_HERE = frozenset({"ObjectMissing", "GitFailed"})
# Of a proposal's record that is not the run's first under its number.
_AGAIN = re.compile(r"\.again-[1-9][0-9]*(?=\.json$)")


@dataclass(frozen=True)
class Made:
    """What git held of an experiment at a commit; `experiment` is None for a form that can't be read any more."""

    on_main: bool
    manifest: str
    experiment: Experiment | None
    code: Snapshot | None = None
    lock: str | None = None


class Past:
    """Main's history as records refer to it. With `afresh` nothing that was remembered of it is believed."""

    def __init__(self, state: State, machines: Callable[[], frozenset[str]], afresh: bool = False) -> None:
        self._state, self._afresh = state, afresh
        self._git, self._tip = state.git, state.commit
        self._machines = cache(machines)
        self._trees: dict[str, CommitTree] = {}
        self._made: dict[tuple[str, str], Made] = {}
        self._same: dict[tuple[str, str], bool] = {}
        self.shallow = state.git.is_shallow()

    def made(self, commit: str, experiment: str) -> Made:
        """What the experiment was there: many runs are of one. Raises RepositoryError if this clone can't tell."""
        key = commit, experiment
        if key not in self._made:
            self._made[key] = self._look(commit, experiment)
        return self._made[key]

    def tree(self, commit: str) -> CommitTree:
        """The files of a commit, each listed once."""
        if commit not in self._trees:
            cached = None if self._afresh else self._git.root / ".edgetrain" / "blobs.db"
            self._trees[commit] = CommitTree(self._git, self._git.resolve(commit), cache=cached)
        return self._trees[commit]

    def _look(self, commit: str, experiment: str) -> Made:
        tree, path = self.tree(commit), manifest_path(experiment)
        on_main = tree.sha in self.commits
        if self._as_now(commit, experiment):
            now = self._state.desired
            same = now.experiments[experiment]
            manifest = reader.content_digest(same.document) or digest_bytes(tree.read(path))
            return Made(on_main, manifest, same, now.snapshots[experiment], now.locks[experiment])
        data = tree.read(path)
        found = read_experiment(data, path)
        if found is None:
            return Made(on_main, digest_bytes(data), None)
        lock = found.lock_path
        return Made(
            on_main,
            digest_bytes(data),
            found,
            _there(lambda: snapshot(tree, found.code_folder)),
            None if lock is None else _there(lambda: digest_bytes(tree.read(lock, MAX_LOCK_BYTES))),
        )

    def _as_now(self, commit: str, experiment: str) -> bool:
        """Whether the tip has the very same files of the experiment, records apart: they are read already."""
        if self._afresh or experiment not in self._state.desired.experiments:
            return False
        key = commit, experiment
        if key not in self._same:
            folder = f"experiments/{experiment}/"

            def files(at: Tree) -> list[Entry]:
                return [entry for entry in at.files(folder) if not entry.path.startswith(folder + "runs/")]

            self._same[key] = files(self.tree(commit)) == files(self._state.tree)
        return self._same[key]

    def apart(self) -> Past:
        """The same in a copy of the process: nothing that the other reads with is used any more."""
        for tree in (self._state.tree, *self._trees.values()):
            tree.apart()
        return self

    def ahead(self, runs: Sequence[RunRecord]) -> None:
        """These runs are looked at next, each once; a few hundred at most."""
        manifests: dict[str, list[str]] = {}
        for run in runs:
            manifests.setdefault(run.data["commit"], []).append(run.experiment)
        for commit, experiments in manifests.items():
            with contextlib.suppress(RepositoryError):  # told of each run
                others = [manifest_path(name) for name in experiments if not self._as_now(commit, name)]
                if others:
                    self.tree(commit).ahead(others)

    @cached_property
    def judgements(self) -> Judgements:
        """By what the state's runs were judged."""
        state = self._state
        demands = Demands(self._git, self._tip, self.tree)
        return Judgements(state.desired, state.recorded, demands, self.shallow)

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


def manifest_path(experiment: str) -> str:
    """Where an experiment's manifest lies."""
    return f"experiments/{experiment}/experiment.yaml"


def _same_hands(found: Provenance, behind: Mapping[str, Any]) -> bool:
    if behind.get("proposer") != found.proposer:
        return False
    # Where a forge was asked, approvers are its, whatever trailers say.
    return behind.get("review") is not None or set(behind.get("approvers") or ()) <= set(found.approvers)


def run_checks(run: RunRecord, past: Past) -> Iterator[Check]:
    """Whether the record agrees with itself, and follows from what git held when the run was started."""
    yield from _itself(run)
    yield from past.judgements.checks(run, run)
    commit = run.data["commit"]
    try:
        made = past.made(commit, run.experiment)
    except RepositoryError as error:
        what = f"{run.run_id}: its commit {commit[:12]} can't be read here: {error.message}"
        reason, fix = UNTOLD, UNSHALLOW
        if error.reason in NOT_HERE:
            reason, fix = LACKING, WHOLE
        elif not past.shallow:
            reason, fix = "CommitGone", "ask for the history from before main was rewritten, and fetch that commit"
        yield untold("manifest", what, reason, fix)
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
    code = made.code.digest if made.code else None
    yield held("code", f"{run.run_id} ran the code of its commit", of["code"] == code)
    yield held("lock", f"{run.run_id} had the packages of its commit", of["requirements"] == made.lock)
    odd = sorted(_odd_fields(run, made.experiment))
    told = f"{run.run_id} ran what its manifest asks for"
    yield held("identity-fields", told + (f" ({', '.join(odd)} differ)" if odd else ""), not odd)
    if made.code is not None:
        yield from facts_checks(run, made.experiment, made.code)


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
            yield untold("provenance", what, UNTOLD, UNSHALLOW)
        else:
            yield held("provenance", f"{record.path} names a merge that is in main's history", False)
        return
    same = past.told(merge, behind)
    if same is None:
        what = f"{record.path}: what commit {merge[:12]} merged is cut off"
        yield untold("provenance", what, UNTOLD, UNSHALLOW)
    else:
        yield held("provenance", f"{record.path} names who proposed and approved {merge[:12]}", same)


def reference_checks(
    recorded: Recorded, desired: Desired, models: set[str] | None, judgements: Judgements
) -> Iterator[Check]:
    """Whether what records refer to is there, and later judgements follow; of some models, or (None) of all."""

    def mine(model: str) -> bool:
        return models is None or model in models

    judged: dict[str, list[int]] = {}
    for evaluation in recorded.evaluations:
        run = recorded.run(evaluation.run)
        if run is None:
            if models is None:
                yield held("reference", f"the run record that {evaluation.path} judges is there", False)
        elif mine(run.model):
            stem, number = run.path.removesuffix(".json"), evaluation.data["number"]
            beside = evaluation.path == f"{stem}.evaluation-{number}.json"
            yield held("reference", f"{evaluation.path} lies beside the run record that it judges", beside)
            judged.setdefault(run.run_id, []).append(number)
            yield from judgements.checks(evaluation, run)
    for name, given in sorted(judged.items()):
        whole = sorted(given) == list(range(1, len(given) + 1))
        yield held("reference", f"the evaluation records of {name} are numbered without a gap", whole)
    proposals = {proposal.digest: proposal for proposal in recorded.proposals}
    for proposal in filter(lambda one: mine(one.model), recorded.proposals):
        run, before = recorded.run(proposal.run), proposal.data.get("supersedes")
        stem = f"models/{proposal.model}/proposals/{proposal.version}-"
        name = f"{run.identity.removeprefix('sha256:')[:12]}-{run.attempt}" if run else ""
        beside = _AGAIN.sub("", proposal.path) == f"{stem}{name}.json"
        right = run is not None and run.model == proposal.model and beside
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


def _there(compute: Callable[[], _Found]) -> _Found | None:
    """None where the commit does not have it: then it is nothing that a record tells of. Raises RepositoryError for
    what the commit has and this clone lacks."""
    try:
        return compute()
    except RepositoryError as error:
        if error.reason in NOT_HERE:
            raise
        return None


def read_experiment(data: bytes, path: str) -> Experiment | None:
    """The experiment of a manifest's bytes; None if this version does not read it."""
    document, problems = reader.read(data, path)
    kind = kind_at(path)
    if document is None or kind is None or problems or schema.check(document, kind.name):
        return None
    found = parse(document, kind)
    return found if isinstance(found, Experiment) else None
