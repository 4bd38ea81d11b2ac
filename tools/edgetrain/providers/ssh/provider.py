"""`SshCompute`: runs on a machine at the site, reached by SSH, each below a supervisor of its own there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from edgetrain.core.errors import ProviderError, Rejected
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
from edgetrain.core.quantity import bytes_of, seconds_of
from edgetrain.providers.answers import examination_of, harvest_of
from edgetrain.providers.contract import ID
from edgetrain.providers.ssh import starting, transfer
from edgetrain.providers.ssh.connection import Connection
from edgetrain.providers.ssh.container import ISOLATION
from edgetrain.providers.ssh.diagnose import diagnose
from edgetrain.providers.ssh.environment import drop, environment_id
from edgetrain.providers.ssh.image import check_reference
from edgetrain.providers.ssh.inputs import Inputs
from edgetrain.providers.ssh.login import route
from edgetrain.providers.ssh.remote import Remote
from edgetrain.providers.ssh.starting import ENGINE, Machine
from edgetrain.providers.states import state_of

WORK = "~/.edgetrain"
RETENTION = "30d"
GRACE_SECONDS = 10.0
SPARE_SECONDS = 120.0


class SshCompute:
    """Compute `ssh`: one machine. `grace` is the seconds between SIGTERM and SIGKILL of a run that is ended."""

    def __init__(self, settings: TargetSettings, grace: float = GRACE_SECONDS) -> None:
        self.settings = settings
        block = settings.block
        work = str(block.get("workFolder", WORK)).rstrip("/")
        self._retention = float(seconds_of(block.get("runRetention", RETENTION)))
        self._limit = bytes_of(block["cacheSize"]) if "cacheSize" in block else None
        self._grace = grace
        self.remote = Remote(Connection(route(settings)), work)
        self.machine = Machine(settings, self.remote)

    def _inputs(self) -> Inputs:
        return Inputs(self.remote, f"{self.machine.host()['work']}/cache", self._limit)

    def observe(self) -> TargetStatus:
        """Look at the machine, its engine, and from inside a container made as runs have it."""
        try:
            self.machine.forget()
            platform = str(self.machine.host()["platform"])
            tried = self.machine.tried(self.machine.own_image())
        except ProviderError as error:
            return TargetStatus(
                ready=False,
                egress=EgressLevel.ADVISORY,
                python="",
                platform="",
                isolation=dict.fromkeys(ISOLATION, False),
                reason=error.reason,
                message="; ".join(filter(None, (error.message, error.fix))),
            )
        return TargetStatus(ready=True, egress=tried.level, python="", platform=platform, isolation=tried.isolation)

    def measure(
        self, source: DataSource, single_file: bool = False, progress: Callable[[int], None] | None = None
    ) -> DataDigest | None:
        """Digest an input there; what was read stays in the machine's cache."""

        def told(counts: Mapping[str, int]) -> None:
            if progress:
                progress(int(counts.get("bytes", 0)))

        found = self._inputs().stage(source, single_file, view=False, progress=told)
        return DataDigest(found.digest, found.files, found.bytes)

    def start(self, spec: RunSpec) -> None:
        """Start the run detached, unless it was ever started there. Data that changed ends it by `data`."""
        starting.start(spec, self.machine, self._inputs(), self._grace)

    def prepare(self, spec: RunSpec) -> RunState:
        """All of `start` but that the run begins; its state then (see `starting.prepare`)."""
        return starting.prepare(spec, self.machine, self._inputs(), self._grace)

    def bar(self, run_id: str, by: str, message: str) -> RunState:
        """End a run that has not begun, so that it never does; its state then."""
        return state_of(self.remote.ask("bar", id=_checked(run_id), by=by, message=message))

    def inspect(self, run_id: str) -> RunState:
        """How the run is now."""
        return state_of(self.remote.ask("inspect", ids=[_checked(run_id)])[run_id])

    def cancel(self, run_id: str, reason: str) -> None:
        """End the run and its container."""
        self.remote.ask("cancel", id=_checked(run_id), reason=reason)

    def logs(self, run_id: str, follow: bool = False) -> Iterator[str]:
        """The script's output; after a harvest, what was found wrong follows, with the names of files."""
        return transfer.log_lines(self.remote, _checked(run_id), follow)

    def harvest(self, run_id: str, outputs: Mapping[str, str]) -> Harvest:
        """Read what an ended run left, in a container of its own there."""
        paths = list(outputs.values())
        found = self.remote.ask("harvest", id=_checked(run_id), outputs=paths)
        return harvest_of(json.dumps(found).encode())

    def examine(self, run_id: str, rules: EgressRules) -> Examination:
        """Compare what would leave with the run's inputs, in a container of its own there."""
        limit = rules.seconds + SPARE_SECONDS
        found = self.remote.ask("examine", id=_checked(run_id), rules=asdict(rules), limit=limit)
        return examination_of(json.dumps(found).encode(), self.inspect(run_id).level)

    def fetch(self, run_id: str, path: str, into: Path) -> None:
        """Copy one output file; a lost link costs only what was under way."""
        transfer.fetch(self.remote, _checked(run_id), path, into)

    def forget(self, run_id: str) -> None:
        """Clear the run away but for its log, which goes when the retention is over; its data stays in the cache
        while there is room."""
        self.remote.ask("forget", id=_checked(run_id), retention=self._retention)

    def diagnose(self, sources: Sequence[DataSource] = (), cheap: bool = False) -> Sequence[Check]:
        """Look at all that a run needs."""
        return diagnose(self.settings, self.machine, self._inputs, sources, cheap)

    def runs(self) -> Sequence[str]:
        """The ids of all runs that are held there."""
        return [name for name in self.remote.ask("names") if ID.fullmatch(name)]

    def environment(self, requirements: bytes, image: str | None = None, python: str = "") -> str:
        """The id of this lock's environment on this image with its Python."""
        platform = self.machine.host()["platform"]
        return environment_id(requirements, check_reference(image), python, platform)

    def environments(self) -> Sequence[StoredEnvironment]:
        """The environments that the machine keeps."""
        found = self.remote.call("environments", module=ENGINE)
        return [StoredEnvironment(one["id"], int(one["size"]), one["built"]) for one in found]

    def drop_environment(self, environment: str) -> None:
        """Remove it there, and the runner's copy."""
        self.remote.call("drop", module=ENGINE, id=environment)
        drop(self.settings.state, environment)


def _checked(run_id: str) -> str:
    if not ID.fullmatch(run_id):
        raise Rejected(
            "the run's id is not fit for a file name",
            reason="InvalidRunId",
            fix="report this: it is a fault of edgetrain",
        )
    return run_id


def from_settings(settings: TargetSettings) -> SshCompute:
    """The machine that the manifest names."""
    return SshCompute(settings)
