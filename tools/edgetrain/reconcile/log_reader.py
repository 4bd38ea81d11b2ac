"""Reads what a script said: from where it runs or ran, or as the site kept it; secrets are masked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgetrain.core.errors import NotFound
from edgetrain.core.ports import Compute, RunPhase, TargetSettings
from edgetrain.providers.table import provider
from edgetrain.reconcile.lookup import no_run, one_of, read_main
from edgetrain.reconcile.observe import read_claims
from edgetrain.reconcile.resubmit import AGAIN, entry, in_our_words
from edgetrain.reconcile.runs import CACHES
from edgetrain.reconcile.scoring import SCORING, SCORINGS
from edgetrain.reconcile.secrets import masked
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.state import State
from edgetrain.reconcile.under_way import made_again, under_way
from edgetrain.repo.git import Git


def read_log(root: Path, text: str, follow: bool = False) -> Iterator[str]:
    """The run's output, line by line: from where it runs, or as the site kept it. Try-outs count too, and versions
    that are made again.

    Raises UsageError for an unknown run, NotFound if its log is not on this machine.
    """
    git = Git.find(root)
    tried = trial_runs(git.root)
    state = read_main(root)
    notes: list[str] = []
    started = under_way(state, notes) | made_again(state)
    recorded = {run.run_id: run for run in state.recorded.runs}
    known = {*tried, *started, *recorded}
    if SCORING.fullmatch(text):
        return masked(state.desired.configuration, _scoring_log(state, text, follow))
    name = one_of(known, in_our_words(text))
    if name is None:
        raise no_run(text, known)
    configuration = state.desired.configuration
    if name in started:
        return masked(configuration, _live(started[name].compute(state), name, follow))
    if AGAIN.fullmatch(name):
        raise NotFound(
            f"{name} is over, and no log of it was kept",
            reason="LogNotHere",
            fix=f"see run {entry(name)} in Azure ML, or call edgetrain reproduce again",
        )
    if name in tried:
        return masked(configuration, _trial_log(git.root, name, follow))
    where = recorded[name].data["target"]
    target = state.desired.targets.get(str(where.get("name", "")))
    if target is not None and target.keeps_logs:
        return masked(configuration, Site(configuration, target.site, git.root).compute(target).logs(name))
    return _kept(state, name, str(where.get("site", "")))


def _scoring_log(state: State, name: str, follow: bool) -> Iterator[str]:
    """What an evaluation said: from where it runs, or as its site kept it."""
    configuration = state.desired.configuration
    for place in configuration.sites:
        site = Site(configuration, place, state.git.root)
        if not site.state.is_dir():
            continue
        for facts in read_claims(site.artifacts, SCORINGS).values():
            target = state.desired.targets.get(facts["target"])
            if target is not None and str(facts["name"]).rpartition("-")[0] == name.rpartition("-")[0]:
                return _live(site.aside(target), name, follow)
        if (site.state / "logs" / f"{name}.log").is_file():
            return _kept(state, name, place)
    raise NotFound(
        f"the log of {name} is not on this machine: logs stay at the site",
        reason="LogNotHere",
        fix="run this on the runner of the site that evaluated it (old logs are removed by edgetrain gc)",
    )


def trial_runs(checkout: Path) -> list[str]:
    """The ids of this checkout's try-outs."""
    folder = checkout / CACHES / "runs"
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _live(compute: Compute, name: str, follow: bool) -> Iterator[str]:
    phase = compute.inspect(name).phase
    if phase is RunPhase.ABSENT:
        raise NotFound(f"{name} has not started yet", reason="NotStarted", fix="look again when it runs")
    return compute.logs(name, follow)


def _trial_log(checkout: Path, name: str, follow: bool) -> Iterator[str]:
    state = checkout / CACHES / "local"
    settings = TargetSettings(name="local", block={}, state=state, allow_unsandboxed=True)
    compute: Compute = provider("compute", "local", settings)
    file = checkout / CACHES / "runs" / name / "log"
    return _lines(file) if file.is_file() else _live(compute, name, follow)


def _kept(state: State, name: str, site: str) -> Iterator[str]:
    if site not in state.desired.configuration.sites:
        raise NotFound(
            f"{name} ran at site {site}, which is not declared any more",
            reason="SiteGone",
            fix="look on that site's runner: its state location has the logs",
        )
    file = Site(state.desired.configuration, site, state.git.root).state / "logs" / f"{name}.log"
    if not file.is_file() or file.is_symlink():
        raise NotFound(
            f"the log of {name} is not on this machine: logs stay at the site",
            reason="LogNotHere",
            fix=f"run this on the runner of site {site} (old logs are removed by edgetrain gc)",
        )
    return _lines(file)


def _lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8", errors="replace") as opened:
        for line in opened:
            yield line.rstrip("\n")
