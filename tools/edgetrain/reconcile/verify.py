"""Recomputes from git what records and versions claim; nothing is asked, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from edgetrain.core.checks.main import main_problems
from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_bytes, digest_of
from edgetrain.core.errors import RepositoryError
from edgetrain.core.kinds import Experiment, ModelVersion, kind_at, parse
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.core.problem import Problem, Severity
from edgetrain.core.record import Record, Recorded, RunRecord
from edgetrain.core.review import read_review
from edgetrain.reconcile.judge import judge_tip
from edgetrain.reconcile.lookup import model_named, read_main, version_named
from edgetrain.reconcile.reviews import approvers
from edgetrain.reconcile.state import State
from edgetrain.reconcile.validate import problems_of
from edgetrain.reconcile.verify_deep import deep_parts
from edgetrain.reconcile.verify_forge import forge_parts
from edgetrain.render.doctor import Part
from edgetrain.render.verify import Verification
from edgetrain.repo import reader, schema
from edgetrain.repo.snapshot import code_digest
from edgetrain.repo.tree import CommitTree

UNTOLD = "HistoryCutOff"


class Trees:
    """The trees of the commits that runs were made from: many runs are of one."""

    def __init__(self, state: State) -> None:
        self._git = state.git
        self._known: dict[str, CommitTree] = {}

    def at(self, commit: str) -> CommitTree:
        """The tree at the commit. Raises RepositoryError if this clone does not have it."""
        if commit not in self._known:
            cache = self._git.root / ".edgetrain" / "blobs.db"
            self._known[commit] = CommitTree(self._git, self._git.resolve(commit), cache=cache)
        return self._known[commit]


def verify(
    root: Path, text: str | None, deep: bool = False, site: str | None = None, forge: bool = False
) -> Verification:
    """Verify all of main as last fetched, or `MODEL`, or `MODEL@N`; `deep` also asks the site's providers, `forge`
    what it knows of the pull requests that records keep.

    Raises UsageError for an unknown name, or no forge; RepositoryError; with `deep` ProviderError if one can't be
    asked.
    """
    state = read_main(root)
    versions, trees = versions_of(state.desired, text), Trees(state)
    parts = [_files(state, versions if text else None), *(_version(state, version, trees) for version in versions)]
    if text is None:
        parts.append(_runs(state, {version.record for version in versions}, trees))
    models = sorted({version.model for version in versions})
    parts += [Part("channels", model, tuple(_chains(state.recorded, model))) for model in models]
    if deep:
        parts += deep_parts(state, versions, site)
    if forge:
        parts += forge_parts(state, versions if text else None)
    told = tuple(part for part in parts if part.checks)
    return Verification(text or "everything", state.commit, deep, told, forge)


def versions_of(desired: Desired, text: str | None) -> list[ModelVersion]:
    """The versions that a person names."""
    if text is not None and "@" in text:
        return [version_named(desired, text)]
    models = sorted(desired.models) if text is None else [model_named(desired, text)]
    return [desired.versions[model, number] for model in models for number in desired.numbers(model)]


def held(name: str, what: str, right: bool, fix: str = "") -> Check:
    """A check that holds or does not."""
    if right:
        return Check(name, CheckStatus.PASS, what)
    mend = fix or "find the commit that changed it with `git log -- FILE`, and undo it by a new one on main"
    return Check(name, CheckStatus.FAIL, f"it does not hold that {what}", "Mismatch", mend)


def _files(state: State, only: Sequence[ModelVersion] | None) -> Part:
    """What validate finds, and whether the records are the machine's: of all files, or of some versions' own."""
    judgement = judge_tip(state)
    problems = [*problems_of(state.loaded), *main_problems(judgement.wrong), *judgement.warnings]
    if only is not None:
        places = {f"models/{version.model}/" for version in only} | {version.run_path for version in only}
        problems = [p for p in problems if p.path == "." or any(p.path.startswith(place) for place in places)]
    found = [_problem(problem) for problem in sorted(set(problems))]
    if not any(check.status is CheckStatus.FAIL for check in found):
        what = "records are in their exact form, the machine's, all still there, and versions repeat them"
        found.append(Check("files", CheckStatus.PASS, what))
    return Part("main", "", tuple(found))


def _problem(found: Problem) -> Check:
    status = CheckStatus.FAIL if found.severity is Severity.PROBLEM else CheckStatus.WARN
    return Check("files", status, f"{found.path}:{found.line}: {found.what}", found.code, found.fix)


def _version(state: State, version: ModelVersion, trees: Trees) -> Part:
    run = state.recorded.run(version.record)
    checks: list[Check] = [held("run-record", f"the run record {version.run_path} is there", run is not None)]
    if run is not None:
        checks += _run(run, trees)
        checks += _review(run)
    release = state.recorded.release(version.model, version.number)
    if release is None:
        checks.append(Check("release", CheckStatus.PASS, "it is not released yet"))
        return Part("version", version.id, tuple(checks))
    manifest = digest_bytes(state.tree.read(version.document.path))
    mine = [r for r in state.recorded.releases if (r.model, r.version) == (version.model, version.number)]
    for record in mine:
        name = f"release-{record.data['number']}"
        checks.append(held(name, "it names the version's manifest as it is", record.data["manifest"] == manifest))
        checks.append(held(name, "it names the version's run record", record.data["run"] == version.record))
        if record is not release and "release" in record.data:
            right = record.data["release"] in (release.digest, None)
            checks.append(held(name, "it follows from the version's release", right))
        checks += _review(record)
    return Part("version", version.id, tuple(checks))


def _runs(state: State, cited: set[str], trees: Trees) -> Part:
    """The runs that no version cites: told only where something is wrong."""
    runs = [run for run in state.recorded.runs if run.digest not in cited]
    checks = [check for run in runs for check in (*_run(run, trees), *_review(run))]
    bad = [check for check in checks if check.status is not CheckStatus.PASS]
    if runs and not bad:
        what = f"{len(runs)} more run records follow from the manifests, code and locks of their commits"
        bad = [Check("run-records", CheckStatus.PASS, what)]
    return Part("runs", "", tuple(bad))


def _run(run: RunRecord, trees: Trees) -> Iterator[Check]:
    """Whether the record follows from what git held when the run was started."""
    identity = run.identity == digest_of(run.data["identityOf"])
    yield held("identity", f"{run.run_id} has the identity of its fields", identity)
    folder = f"experiments/{run.experiment}"
    try:
        tree = trees.at(run.data["commit"])
        manifest = tree.read(f"{folder}/experiment.yaml")
    except RepositoryError as error:
        what = f"{run.run_id}: its commit {run.data['commit'][:12]} can't be read here: {error.message}"
        yield Check("manifest", CheckStatus.WARN, what, UNTOLD, "git fetch --unshallow, then verify again")
        return
    if "manifest" in run.data:
        same = run.data["manifest"] == digest_bytes(manifest)
        yield held("manifest", f"{run.run_id} was made by the manifest of its commit", same)
    experiment = _experiment(manifest, f"{folder}/experiment.yaml")
    if experiment is None:
        what = f"{run.run_id}: its manifest is of a form that this version does not read"
        yield Check("code", CheckStatus.WARN, what, "FormUnknown", "verify with the version of then")
        return
    of = run.data["identityOf"]
    code = _digest(lambda: code_digest(tree, experiment.code_folder))
    yield held("code", f"{run.run_id} ran the code of its commit", of["code"] == code)
    path = experiment.lock_path
    lock = None if path is None else _digest(lambda: digest_bytes(tree.read(path)))
    yield held("lock", f"{run.run_id} had the packages of its commit", of["requirements"] == lock)


def _review(record: Record) -> Iterator[Check]:
    """Whether the approvals that a record counts are those that its own numbers and commits let count."""
    provenance = record.data.get("provenance") or {}
    kept = provenance.get("review")
    if kept is None:
        return
    right = [(one.counts, one.why) for one in read_review(kept).approvals]
    told = [(one.get("counts"), one.get("why")) for one in kept["approvals"]]
    named = provenance.get("approvers") == approvers(kept)
    yield held("review", f"{record.path} counts and names the approvals that count", right == told and named)


def _digest(compute: Callable[[], str]) -> str | None:
    """None where git does not hold it: then it is no digest of a record."""
    try:
        return compute()
    except RepositoryError:
        return None


def _experiment(data: bytes, path: str) -> Experiment | None:
    document, problems = reader.read(data, path)
    kind = kind_at(path)
    if document is None or kind is None or problems or schema.check(document, kind.name):
        return None
    found = parse(document, kind)
    return found if isinstance(found, Experiment) else None


def _chains(recorded: Recorded, model: str) -> Iterable[Check]:
    """Whether each channel's moves follow each other, from the first to the last, without a fork."""
    moves = [r for r in recorded.releases if r.model == model and r.event == "channel"]
    for channel in sorted({str(r.data["channel"]) for r in moves}):
        mine = {r.digest: r for r in moves if r.data["channel"] == channel}
        follows = [r.data["follows"] for r in mine.values()]
        known = all(name is None or name in mine for name in follows)
        single = len(set(follows)) == len(follows) and follows.count(None) == 1
        yield held("channel", f"the moves of {channel} follow each other in one line", known and single)
        steps = (
            all(
                r.data["follows"] is None or mine[r.data["follows"]].data["to"] == r.data["from"]
                for r in mine.values()
            )
            if known
            else True
        )
        yield held("channel", f"each move of {channel} leaves from where the one before went", steps)
