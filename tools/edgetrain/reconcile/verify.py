"""Recomputes from git what records and versions claim; nothing is asked, and nothing is changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

from edgetrain.core.checks.main import main_problems
from edgetrain.core.digest import digest_bytes
from edgetrain.core.kinds import ModelVersion
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.core.problem import Problem, Severity, shown
from edgetrain.core.record import RunRecord
from edgetrain.core.recorded import Recorded
from edgetrain.reconcile.judge import judge_tip, machines_of
from edgetrain.reconcile.lookup import model_named, read_main, version_named
from edgetrain.reconcile.state import State
from edgetrain.reconcile.validate import problems_of
from edgetrain.reconcile.verify_checks import held, parts_of, plainly, untold
from edgetrain.reconcile.verify_runs import Past, reference_checks, review_checks, run_checks
from edgetrain.render.doctor import Part
from edgetrain.render.verify import Verification
from edgetrain.repo.beside import Copy
from edgetrain.repo.git import Git

AHEAD = 256
# Below this many versions and runs a second process costs more than it saves.
WORTH_IT = 200
FSCK_SECONDS = 3600.0
_DAMAGE = re.compile(
    r"mismatch|corrupt|missing (?:blob|tree|commit)|broken link|unable to|could not|garbage|inflate"
)
_LOOK = "make a fresh clone, and compare: git fsck --full"


def verify(
    root: Path, text: str | None, deep: bool = False, site: str | None = None, forge: bool = False
) -> Verification:
    """Verify all of main as last fetched, or `MODEL`, or `MODEL@N`; `deep` reads every byte, in this clone and at
    the site's providers, and believes nothing that was remembered; `forge` asks what it knows of the pull requests
    that records keep.

    Raises UsageError for an unknown name, or no forge; RepositoryError. What can't be asked is a warning.
    """
    store = list(_objects(Git.find(root))) if deep else []
    state = read_main(root)
    versions = versions_of(state, text)
    past = Past(state, lambda: machines_of(state.git, state.commit), afresh=deep)
    only = versions if text else None
    model = text if text and "@" not in text else None
    cited = {version.record for version in versions}
    others = [run for run in state.recorded.runs if text in (None, run.model) and run.digest not in cited]
    places = _places(state, versions, model) if text else None
    files, found = _in_two(state, [*versions, *others], past, lambda: _files(state, places, deep))
    parts = [Part("clone", "", tuple(store)), files, *found[: len(versions)], _runs(found[len(versions) :])]
    names = {version.model for version in versions} | ({model} if model else set())
    parts.append(_references(state, names if text else None, past))
    parts += [Part("channels", model, tuple(_chains(state.recorded, model))) for model in sorted(names)]
    if deep:
        from edgetrain.reconcile.verify_deep import deep_parts  # here: what is not asked for is not imported

        parts += deep_parts(state, versions, others, site)
    if forge:
        from edgetrain.reconcile.verify_forge import forge_parts

        parts += forge_parts(state, only)
    told = tuple(part for part in parts if part.checks)
    return Verification(text or "everything", state.commit, deep, told, forge)


def versions_of(state: State, text: str | None) -> list[ModelVersion]:
    """The versions that a person names."""
    desired, broken = state.desired, state.loaded.broken
    if text is not None and "@" in text:
        return [version_named(desired, broken, text)]
    models = sorted(desired.models) if text is None else [model_named(desired, broken, text)]
    return [desired.versions[model, number] for model in models for number in desired.numbers(model)]


def _objects(git: Git) -> Iterator[Check]:
    """Whether each object in this clone's own store is what its name says."""
    done = git.attempt("fsck", "--full", "--no-dangling", "--no-progress", "--no-reflogs", timeout=FSCK_SECONDS)
    said = (done.out.decode("utf-8", "replace") + done.err).splitlines()
    damage = [line for line in said if not line.startswith("warning") and _DAMAGE.search(line)]
    if done.code == 0:
        yield Check("objects", CheckStatus.PASS, "every object of git in this clone is what its name says")
    elif damage:
        more = f" and {len(damage) - 1} more" if len(damage) > 1 else ""
        what = (
            f"it does not hold that every object of git here is what its name says: {shown(damage[0], 200)}{more}"
        )
        yield Check("objects", CheckStatus.FAIL, what, "Mismatch", _LOOK)
    else:
        first = shown(said[0], 200) if said else f"exit code {done.code}"
        yield untold("objects", f"git finds old objects of an odd form: {first}", "OddObjects", _LOOK)


def _places(state: State, versions: Sequence[ModelVersion], model: str | None) -> set[str]:
    """How the paths begin that belong to some versions, and to all of a model."""
    places = {f"models/{version.model}/" for version in versions}
    # Of the run's record and of those that judge it again.
    places |= {version.run_path.removesuffix("json") for version in versions}
    if model is not None:
        trained = {run.experiment for run in state.recorded.runs if run.model == model}
        trained |= {name for name, experiment in state.desired.experiments.items() if experiment.model == model}
        places |= {f"models/{model}/", *(f"experiments/{name}/" for name in trained)}
    return places


def _files(state: State, places: set[str] | None, afresh: bool) -> Part:
    """What validate finds, and whether the records are the machine's: of all files, or of those at some places."""
    judgement = judge_tip(state, afresh)
    # A warning of validate is advice on a manifest; nothing is untold for it.
    found_by = [found for found in problems_of(state.loaded) if found.severity is Severity.PROBLEM]
    problems = [*found_by, *main_problems(judgement.wrong), *judgement.warnings]
    if places is not None:
        problems = [p for p in problems if p.path == "." or any(p.path.startswith(place) for place in places)]
    found = [_problem(problem) for problem in sorted(set(problems))]
    if not any(check.status is CheckStatus.FAIL for check in found):
        what = "records are in their exact form, the machine's, all still there, and versions repeat them"
        found.append(Check("files", CheckStatus.PASS, what))
    return Part("main", "", tuple(found))


def _problem(found: Problem) -> Check:
    status = CheckStatus.FAIL if found.severity is Severity.PROBLEM else CheckStatus.WARN
    return Check("files", status, f"{found.path}:{found.line}: {found.what}", found.code, found.fix)


def _version(state: State, version: ModelVersion, past: Past) -> Part:
    run = state.recorded.run(version.record)
    checks: list[Check] = [held("run-record", f"the run record {version.run_path} is there", run is not None)]
    if run is not None:
        checks += run_checks(run, past)
        checks += review_checks(run, past)
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
        checks += review_checks(record, past)
    return Part("version", version.id, tuple(checks))


def _in_two(
    state: State, units: Sequence[ModelVersion | RunRecord], past: Past, files: Callable[[], Part]
) -> tuple[Part, list[Part]]:
    """The part of the files, and one of each version and run: of many, a copy of this process looks at some."""
    share = -(-len(units) * 3 // 5) if len(units) >= WORTH_IT else 0  # this process has the files as well
    theirs, mine = units[:share], units[share:]
    with Copy(lambda: plainly(_each(state, theirs, past.apart()))) if share else nullcontext() as copy:
        first, found = files(), _each(state, mine, past)
        told = copy.collect() if copy else None
    # Without an answer it is done here, and what is wrong is told.
    return first, [*(_each(state, theirs, past) if told is None else parts_of(told)), *found]


def _each(state: State, units: Sequence[ModelVersion | RunRecord], past: Past) -> list[Part]:
    parts = []
    for at, unit in enumerate(units):
        if at % AHEAD == 0:
            runs = (one if isinstance(one, RunRecord) else state.recorded.run(one.record) for one in units[at:])
            past.ahead([run for run in islice(runs, AHEAD) if run is not None])
        if isinstance(unit, ModelVersion):
            parts.append(_version(state, unit, past))
        else:
            parts.append(Part("run", unit.run_id, (*run_checks(unit, past), *review_checks(unit, past))))
    return parts


def _runs(found: Sequence[Part]) -> Part:
    """The runs that no version cites: told only where something is wrong."""
    what = f"{len(found)} more run records follow from the manifests, code and locks of their commits"
    checks = [check for part in found for check in part.checks]
    return Part("runs", "", _wrong_only(checks, Check("run-records", CheckStatus.PASS, what)) if found else ())


def _references(state: State, models: set[str] | None, past: Past) -> Part:
    """What evaluations, proposals and releases refer to: told only where something is wrong."""
    checks = list(reference_checks(state.recorded, state.desired, models, past.judgements))
    what = "evaluations, proposals and releases refer to records and versions that are there"
    return Part("references", "", _wrong_only(checks, Check("references", CheckStatus.PASS, what)))


def _wrong_only(checks: Sequence[Check], well: Check) -> tuple[Check, ...]:
    bad = tuple(check for check in checks if check.status is not CheckStatus.PASS)
    return bad or ((well,) if checks else ())


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
