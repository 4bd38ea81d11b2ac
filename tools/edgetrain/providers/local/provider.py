"""`LocalCompute`: runs on the runner itself, each below a detached supervisor of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgetrain.core.errors import KINDS, Rejected
from edgetrain.core.ports import (
    Check,
    DataDigest,
    DataSource,
    EgressLevel,
    EgressRules,
    Examination,
    Harvest,
    RunSpec,
    RunState,
    StoredEnvironment,
    TargetSettings,
    TargetStatus,
)
from edgetrain.onsite.sandbox import ISOLATION, Absent, find, python
from edgetrain.onsite.supervisor.folder import write
from edgetrain.onsite.vm.fault import Fault
from edgetrain.onsite.vm.runs import Runs, read, remove
from edgetrain.providers.durable import disk, incoming
from edgetrain.providers.index import build_environment
from edgetrain.providers.local import content, prepare
from edgetrain.providers.local.diagnosis import diagnose
from edgetrain.providers.local.environments import drop, environment_id, stored
from edgetrain.providers.local.outputs import copy_out, read_outputs
from edgetrain.providers.states import state_of

GRACE_SECONDS = 5.0


def default_program() -> str | None:
    """Where bubblewrap is."""
    return shutil.which("bwrap")


class LocalCompute:
    """Compute `local` of one site. `state` is the site's durable folder; `capacity` may hold `memory` (bytes).

    `bwrap` tells where bubblewrap is, or None; `grace` is the seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        *,
        name: str,
        state: Path,
        allow_unsandboxed: bool,
        capacity: Mapping[str, Any],
        bwrap: Callable[[], str | None] = default_program,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self.name = name
        self.state = state.absolute()
        self.allow_unsandboxed = allow_unsandboxed
        self.capacity = capacity
        self._bwrap = bwrap
        self._grace = grace

    @property
    def _runs(self) -> Runs:
        return Runs(self.state / "runs", python(), build_environment(os.environ))

    def observe(self) -> TargetStatus:
        """Look at this machine, from inside a sandbox if there is one."""
        sandbox = find(self._bwrap())
        plain = isinstance(sandbox, Absent)
        ready = self.allow_unsandboxed or not plain
        return TargetStatus(
            ready=ready,
            egress=EgressLevel.ADVISORY if plain else EgressLevel.ENFORCED,
            python=prepare.this_python(),
            platform=prepare.this_platform(),
            isolation=dict.fromkeys(ISOLATION, False) if isinstance(sandbox, Absent) else sandbox.isolation,
            reason="Ready" if ready else "SandboxMissing",
            message=f"{sandbox.message}; {prepare.FIX}" if isinstance(sandbox, Absent) else "",
        )

    def measure(
        self, source: DataSource, single_file: bool = False, progress: Callable[[int], None] | None = None
    ) -> DataDigest | None:
        """None: data is read in place."""
        return None

    def start(self, spec: RunSpec) -> None:
        """Start the run detached, unless it was ever started here."""
        with at_site(f"starting run {spec.id}"):
            run = self._runs.run(spec.id)
            if not run.exists():
                self._create(spec, run)
            self._runs.begin(spec.id)

    def _create(self, spec: RunSpec, run: Path) -> None:
        """Make the run's folder, whole or not at all; of two callers at once, one wins."""
        prepare.check(spec)
        found = find(self._bwrap())
        sandbox = None if isinstance(found, Absent) else found
        if isinstance(found, Absent) and (spec.require_enforced or not self.allow_unsandboxed):
            raise Rejected(f"no sandbox: {found.message}", reason="SandboxMissing", fix=prepare.FIX)
        memory = spec.limits.memory or self.capacity.get("memory")
        instructions = prepare.instructions(spec, run, self.state, sandbox, memory, self._grace)

        def fill(fresh: Path) -> None:
            shutil.copytree(spec.code, fresh / "code", symlinks=True)
            for folder in ("outputs", "home", "tmp"):
                (fresh / folder).mkdir(mode=0o700)
            (fresh / "requirements.lock").write_bytes(spec.requirements)
            write(fresh / "spec.json", instructions)

        self._runs.create(spec.id, fill)

    def inspect(self, run_id: str) -> RunState:
        """How the run is now."""
        with at_site(f"looking at run {run_id}"):
            return state_of(self._runs.inspect(run_id))

    def cancel(self, run_id: str, reason: str) -> None:
        """End the run and everything it started; a run that never started is barred from starting."""
        with at_site(f"cancelling run {run_id}"):
            self._runs.cancel(run_id, reason)

    def logs(self, run_id: str, follow: bool = False) -> Iterator[str]:
        """The script's output; after a harvest, what was found wrong follows, with the names of files."""
        with at_site(f"reading the log of {run_id}"):
            yield from self._runs.log(run_id, follow)

    def harvest(self, run_id: str, outputs: Mapping[str, str]) -> Harvest:
        """Read what an ended run left, in a process of its own, inside the sandbox if there is one."""
        with at_site(f"reading the outputs of {run_id}"):
            run = self._runs.ended(run_id)
            sandbox = find(self._bwrap())
            limits = dict(read(run / "spec.json")["bounded"])
            harvest, notes = read_outputs(
                run / "outputs",
                outputs,
                None if isinstance(sandbox, Absent) else sandbox,
                limits[str(run / "outputs")],
            )
            self._runs.note(run_id, notes)
            return harvest

    def examine(self, run_id: str, rules: EgressRules) -> Examination:
        """Compare what would leave with the run's inputs, inside the sandbox if there is one."""
        with at_site(f"checking the outputs of {run_id}"):
            run = self._runs.ended(run_id)
            sandbox = find(self._bwrap())
            inputs = dict(read(run / "spec.json")["inputs"])
            return content.examine(run, inputs, rules, None if isinstance(sandbox, Absent) else sandbox)

    def fetch(self, run_id: str, path: str, into: Path) -> None:
        """Copy one output file."""
        with at_site(f"copying an output of {run_id}"), incoming(into.parent) as file:
            copy_out(self._runs.ended(run_id) / "outputs", path, file.write)
            file.replace(into)

    def forget(self, run_id: str) -> None:
        """Remove all but a mark that the run was started. Raises Conflict while it runs."""
        with at_site(f"clearing run {run_id}"):
            self._runs.forget(run_id)

    def diagnose(self, sources: Sequence[DataSource] = (), cheap: bool = False) -> Sequence[Check]:
        """Look at all that a run needs; nothing of it takes long."""
        return diagnose(find(self._bwrap()), self.allow_unsandboxed, self.state, self.capacity, sources)

    def runs(self) -> Sequence[str]:
        """The ids of all runs that are still held here."""
        with at_site("listing runs"):
            return self._runs.names()

    def environment(self, requirements: bytes, image: str | None = None, python: str = "") -> str:
        """The id of this lock's environment."""
        return environment_id(requirements, self.state)

    def environments(self) -> Sequence[StoredEnvironment]:
        """The site's environments."""
        with at_site("listing environments"):
            return list(stored(self.state))

    def drop_environment(self, environment: str) -> None:
        """Remove it; killed in between, what is left is no environment and is built anew."""
        with at_site("removing an environment"):
            if drop(self.state, environment):
                remove(self.state / "environments" / environment)


@contextmanager
def at_site(what: str) -> Iterator[None]:
    """Turn faults of runs' folders, and of the disk, into provider errors that say `what` was being done."""
    try:
        with disk(what):
            yield
    except Fault as fault:
        raise KINDS[fault.kind](fault.message, reason=fault.reason or None, fix=fault.fix) from None


def from_settings(settings: TargetSettings) -> LocalCompute:
    """The runner itself."""
    return LocalCompute(
        name=settings.name,
        state=settings.state,
        allow_unsandboxed=settings.allow_unsandboxed,
        capacity=settings.capacity,
    )
