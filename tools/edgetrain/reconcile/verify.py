"""Recomputes from git what records and versions claim; nothing is asked, and nothing is changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from edgetrain.core.checks.main import main_problems
from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_bytes
from edgetrain.core.kinds import ModelVersion
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.core.problem import Problem, Severity, shown
from edgetrain.core.recorded import Recorded
from edgetrain.reconcile.judge import judge_tip, machines_of
from edgetrain.reconcile.lookup import model_named, read_main, version_named
from edgetrain.reconcile.state import State
from edgetrain.reconcile.validate import problems_of
from edgetrain.reconcile.verify_checks import held, untold
from edgetrain.reconcile.verify_runs import Past, reference_checks, review_checks, run_checks
from edgetrain.render.doctor import Part
from edgetrain.render.verify import Verification
from edgetrain.repo.git import Git

AHEAD = 256
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
    versions = versions_of(state.desired, text)
    past = Past(state, lambda: machines_of(state.git, state.commit), afresh=deep)
    only = versions if text else None
    parts = [Part("clone", "", tuple(store)), _files(state, only, deep)]
    for at, version in enumerate(versions):
        if at % AHEAD == 0:
            cited = (state.recorded.run(one.record) for one in versions[at : at + AHEAD])
            past.ahead([run for run in cited if run is not None])
        parts.append(_version(state, version, past))
    if text is None:
        parts.append(_runs(state, {version.record for version in versions}, past))
    names = {version.model for version in versions} | ({text} if text and "@" not in text else set())
    parts.append(_references(state, names if text else None, past))
    parts += [Part("channels", model, tuple(_chains(state.recorded, model))) for model in sorted(names)]
    if deep:
        from edgetrain.reconcile.verify_deep import deep_parts  # here: what is not asked for is not imported

        parts += deep_parts(state, versions, site, everything=text is None)
    if forge:
        from edgetrain.reconcile.verify_forge import forge_parts

        parts += forge_parts(state, only)
    told = tuple(part for part in parts if part.checks)
    return Verification(text or "everything", state.commit, deep, told, forge)


def versions_of(desired: Desired, text: str | None) -> list[ModelVersion]:
    """The versions that a person names."""
    if text is not None and "@" in text:
        return [version_named(desired, text)]
    models = sorted(desired.models) if text is None else [model_named(desired, text)]
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


def _files(state: State, only: Sequence[ModelVersion] | None, afresh: bool) -> Part:
    """What validate finds, and whether the records are the machine's: of all files, or of some versions' own."""
    judgement = judge_tip(state, afresh)
    # A warning of validate is advice on a manifest; nothing is untold for it.
    found_by = [found for found in problems_of(state.loaded) if found.severity is Severity.PROBLEM]
    problems = [*found_by, *main_problems(judgement.wrong), *judgement.warnings]
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


def _runs(state: State, cited: set[str], past: Past) -> Part:
    """The runs that no version cites: told only where something is wrong."""
    runs = [run for run in state.recorded.runs if run.digest not in cited]
    checks: list[Check] = []
    for at, run in enumerate(runs):
        if at % AHEAD == 0:
            past.ahead(runs[at : at + AHEAD])
        checks += (*run_checks(run, past), *review_checks(run, past))
    what = f"{len(runs)} more run records follow from the manifests, code and locks of their commits"
    return Part("runs", "", _wrong_only(checks, Check("run-records", CheckStatus.PASS, what)) if runs else ())


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
