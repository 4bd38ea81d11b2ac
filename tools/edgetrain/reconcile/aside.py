"""Runs made aside, of which neither git nor workspace nor the site's store learns anything."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgetrain.core.kinds import Configuration, Experiment
from edgetrain.core.ports import Compute, RunPhase, RunState, TargetSettings
from edgetrain.core.record import run_id
from edgetrain.providers.table import provider
from edgetrain.reconcile.facts import run_spec
from edgetrain.reconcile.report import Event, Report
from edgetrain.reconcile.resubmit import of_no_use
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.starting import export_code
from edgetrain.reconcile.waiting import POLL_SECONDS
from edgetrain.repo.tree import Tree

CACHES = ".edgetrain"
DRAIN_SECONDS = 10.0


class AsideSite(Site):
    """The site without its store: caches, environments and local runs lie in the checkout, `given` data beside the
    site's own datastores."""

    def __init__(self, configuration: Configuration, name: str, checkout: Path, given: Mapping[str, Path]) -> None:
        super().__init__(configuration, name, checkout)
        self.state = self.caches / "local"
        blocks = {store: {"type": "folder", "path": str(path)} for store, path in given.items()}
        self.settings = replace(self.settings, datastores={**self.settings.datastores, **blocks})

    def this_machine(self) -> Compute:
        """A local target that no manifest declares."""
        allowed = self.configuration.allow_unsandboxed
        settings = TargetSettings(name="local", block={}, state=self.state, allow_unsandboxed=allowed)
        made: Compute = provider("compute", "local", settings)
        return made


def not_ready(site: Site) -> str:
    """What to do where a target can't take runs."""
    if site.configuration.allow_unsandboxed:
        return "see `edgetrain plan --refresh` for the state of the targets"
    return "install bubblewrap, or set allowUnsandboxed: true in edgetrain.yaml of this checkout"


def own_folder(checkout: Path) -> Path:
    """`.edgetrain` of the checkout, which git ignores whatever the repository says."""
    folder = checkout / CACHES
    folder.mkdir(exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    return folder


def claim(checkout: Path, compute: Compute, experiment: str, identity: str) -> Path:
    """A fresh folder in the checkout, named by a run id that was never used here."""
    folder = own_folder(checkout) / "runs"
    folder.mkdir(exist_ok=True)
    for attempt in count(1):
        name = run_id(experiment, identity, attempt)
        if compute.inspect(name).phase is not RunPhase.ABSENT:
            continue
        try:
            (folder / name).mkdir()
        except FileExistsError:
            continue
        return folder / name
    raise AssertionError("counting does not end")


@contextlib.contextmanager
def claimed(
    checkout: Path, compute: Compute, experiment: str, identity: str, first: int
) -> Iterator[tuple[Path, RunState]]:
    """The folder and the state of a run that an ended call has left here; else, as by `claim`, a fresh one. It is
    this process's until the block ends. A folder with anything in it has its answer."""
    folder = own_folder(checkout) / "runs"
    folder.mkdir(exist_ok=True)
    for attempt in count(first):
        place = folder / run_id(experiment, identity, attempt)
        left = place.is_dir()
        if left and any(place.iterdir()):
            continue
        state = compute.inspect(place.name)
        if not left:
            if state.phase is not RunPhase.ABSENT:
                continue  # another checkout's
            place.mkdir(exist_ok=True)
        with _held(place) as mine:
            if not mine or any(place.iterdir()):
                continue
            if not of_no_use(state):
                yield place, state
                return
            compute.forget(place.name)
    raise AssertionError("counting does not end")


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Whether no other process has the folder; if so, this one has it, while it lives."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def begin(
    tree: Tree,
    experiment: Experiment,
    site: Site,
    compute: Compute,
    name: str,
    python: str,
    report: Report,
    submitted: Mapping[str, Any] | None = None,
) -> None:
    """Start the run on an export of the tree's code; each input's digest is the one that was measured. `submitted`
    is what a run has besides that the workspace's service starts."""
    scratch = site.state if isinstance(site, AsideSite) else site.state / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch, prefix="code-") as folder:
        code = Path(folder) / "code"
        requirements = export_code(tree, experiment, code, site.configuration.code_size)
        data = {key: source.digest for key, source in experiment.data.items()}
        spec = run_spec(experiment, {}, name, code, requirements, python, site, data, submitted is not None)
        spec = replace(spec, **submitted) if submitted else spec
        report(Event("Starting", name))
        compute.start(spec)


def watch(
    compute: Compute, name: str, report: Report, stop: threading.Event, show: Callable[[str], None] | None = None
) -> RunState:
    """Wait for the end, showing the output meanwhile; `stop` ends the run."""

    def follow(show: Callable[[str], None]) -> None:
        for line in compute.logs(name, follow=True):
            show(line)

    thread = threading.Thread(target=follow, args=(show,), daemon=True) if show else None
    if thread:
        thread.start()
    shown_phase, ending = None, False
    while True:
        state = compute.inspect(name)
        if state.phase in (RunPhase.ENDED, RunPhase.LOST):
            break
        if state.phase is not shown_phase:
            shown_phase = state.phase
            report(Event(state.phase.value.capitalize(), name))
        if ending:
            threading.Event().wait(POLL_SECONDS)
        elif stop.wait(POLL_SECONDS):
            report(Event("Cancelling", name))
            compute.cancel(name, "Interrupted")
            ending = True
    if thread:
        thread.join(DRAIN_SECONDS)
    return state


def promises(experiment: Experiment) -> dict[str, Any]:
    """What the outputs are checked against, in the form of a ticket."""
    outputs = {name: {"path": out.path, "maxSize": out.max_size} for name, out in experiment.outputs.items()}
    return {"outputs": outputs, "metrics": list(experiment.metrics)}
