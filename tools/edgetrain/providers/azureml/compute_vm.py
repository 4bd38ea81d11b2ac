"""`AzuremlVmCompute`: the site's own machine, whose runs Azure ML starts.

Everything that concerns data, image, packages, log and outputs goes over the site's ssh, as for an ssh target.
Azure ML gets the guarded code and a wrapper (`onsite/azureml`), which begins the run that lies prepared on the
machine. How the script ended is told by the machine alone; Azure ML tells of runs that never began, or were
cancelled there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

from edgetrain.core.errors import ProviderError, Rejected
from edgetrain.core.ports import (
    Check,
    CheckStatus,
    DataDigest,
    DataSource,
    EgressRules,
    Examination,
    Harvest,
    Leaving,
    RunPhase,
    RunSpec,
    RunState,
    StoredEnvironment,
    TargetSettings,
    TargetStatus,
)
from edgetrain.providers.azureml import environment
from edgetrain.providers.azureml.attached import attached, no_workspace
from edgetrain.providers.azureml.deadlines import PATIENCE, Deadlines, Patience
from edgetrain.providers.azureml.session import Session, shared
from edgetrain.providers.azureml.snapshot import snapshot
from edgetrain.providers.azureml.submission import (
    CANCELLED_TAG,
    TARGET_TAG,
    Record,
    Submissions,
)
from edgetrain.providers.ssh import deploy
from edgetrain.providers.ssh.provider import GRACE_SECONDS, SshCompute

# What the wrapper needs of the on-site programs; the rest lies on the machine.
PROGRAMS = ("azureml", "supervisor", "vm")
# An ended run's record waits so long for Azure ML to take the outputs; then the machine's word is enough.
FINALIZING_SECONDS = 15 * 60.0
GOING = (RunPhase.PREPARING, RunPhase.RUNNING)


class AzuremlVmCompute:
    """Compute `azureml-vm`: one machine of the site, attached to the workspace of `session`."""

    def __init__(
        self,
        settings: TargetSettings,
        session: Session,
        grace: float = GRACE_SECONDS,
        finalizing: float = FINALIZING_SECONDS,
        patience: Patience = PATIENCE,
    ) -> None:
        self.settings = settings
        self.ssh = SshCompute(replace(settings, block=settings.ssh), grace)
        self.submissions = Submissions(session, settings.name, settings.state)
        self._session, self._finalizing = session, finalizing
        self._deadlines = Deadlines(self.submissions, patience)

    def observe(self) -> TargetStatus:
        """The machine as an ssh target is observed; and whether Azure ML has it."""
        seen = self.ssh.observe()
        if not seen.ready:
            return seen
        try:
            attached(self._session, self.settings.name)
        except ProviderError as error:
            message = "; ".join(filter(None, (error.message, error.fix)))
            return replace(seen, ready=False, reason=error.reason, message=message)
        return seen

    def measure(
        self, source: DataSource, single_file: bool = False, progress: Callable[[int], None] | None = None
    ) -> DataDigest | None:
        """Digest an input on the machine; what was read stays there."""
        return self.ssh.measure(source, single_file, progress)

    def start(self, spec: RunSpec) -> None:
        """Bring the run to the machine and submit it, unless either was ever done."""
        state = self.ssh.prepare(spec)
        if state.phase is not RunPhase.ABSENT:
            return  # it began, or must not
        host = self.ssh.machine.host()
        task = {
            "kind": "vm",
            "id": spec.id,
            "work": host["work"],
            "program": deploy.program(host["work"], "vm.main"),
            "outputs": list(spec.outputs.values()),
            "leaving": asdict(leaving_of(spec)),
        }
        wanted = environment.for_machine(spec.requirements, str(self.settings.block.get("interpreter", "")))
        with snapshot(task, spec.code, spec.requirements, PROGRAMS) as folder:
            self.submissions.submit(
                spec.id, folder, wanted, spec.limits.timeout, {**spec.tags, TARGET_TAG: self.settings.name}
            )

    def inspect(self, run_id: str) -> RunState:
        """How the run is now: the machine's word, and where it has none yet, Azure ML's."""
        state = self.ssh.inspect(run_id)
        if state.phase is RunPhase.LOST:
            return state
        record = self.submissions.look(run_id)
        if record is None:
            return state
        if state.phase is RunPhase.ENDED:
            # The wrapper reads what a run left, and tells Azure ML how it ended: let it, before the run is
            # recorded and cleared away.
            left = state.ended_by != "cancel" and not record.over
            if left and self._since(state.ended) < self._finalizing:
                return replace(state, phase=RunPhase.RUNNING, ended_by="", exit_code=None, ended=None)
            return state
        if not record.over:
            return state if state.phase in GOING else self._waiting(run_id, record)
        record = self.submissions.get(run_id) or record
        if state.phase in GOING and record.status != "Canceled":
            return state  # Azure ML lost it, the machine did not: it goes on to its end
        by, message = _never_began(record)
        if state.phase in GOING:
            self.ssh.cancel(run_id, message)
            return self.ssh.inspect(run_id)
        return self.ssh.bar(run_id, by, message)

    def _waiting(self, run_id: str, record: Record) -> RunState:
        """A run that lies prepared on the machine: one that Azure ML does not start in time must never begin."""
        message = self._deadlines.passed(run_id, record)
        state = self.ssh.bar(run_id, "timeout", message) if message else RunState(RunPhase.PREPARING)
        if message and state.phase is RunPhase.ENDED:
            self.submissions.cancel(run_id, message)
        return state

    def _since(self, ended: str | None) -> float:
        """Seconds since a time that the machine told, by its own clock."""
        if ended is None:
            return 0.0
        return float(self.ssh.machine.host(anew=True)["time"]) - datetime.fromisoformat(ended).timestamp()

    def cancel(self, run_id: str, reason: str) -> None:
        """End the run in Azure ML, and on the machine; in this order, for the machine may not be reached."""
        self.submissions.cancel(run_id, reason)
        self.ssh.cancel(run_id, reason)

    def logs(self, run_id: str, follow: bool = False) -> Iterator[str]:
        """The script's output, from the machine."""
        return self.ssh.logs(run_id, follow)

    def harvest(self, run_id: str, outputs: Mapping[str, str]) -> Harvest:
        """Read what an ended run left, on the machine."""
        return self.ssh.harvest(run_id, outputs)

    def examine(self, run_id: str, rules: EgressRules) -> Examination:
        """Compare what would leave with the run's inputs, on the machine."""
        return self.ssh.examine(run_id, rules)

    def fetch(self, run_id: str, path: str, into: Path) -> None:
        """Copy one output file, from the machine."""
        self.ssh.fetch(run_id, path, into)

    def forget(self, run_id: str) -> None:
        """Clear the run away on the machine; Azure ML keeps its record, and lets it go on no more."""
        self.ssh.forget(run_id)
        self.submissions.cancel(run_id, "recorded")

    def diagnose(self, sources: Sequence[DataSource] = (), cheap: bool = False) -> Sequence[Check]:
        """Look at all that a run needs."""
        found = list(self.ssh.diagnose(sources, cheap))
        if self.settings.block.get("username") != self.settings.ssh.get("username"):
            what = "Azure ML signs in as another account than the site's runner, whose folders it may not use"
            fix = "name the same account in azuremlVm.username and ssh.username, with another key"
            found.append(Check("azureml-account", CheckStatus.FAIL, what, "AccountDiffers", fix))
        return [*found, attached_check(self._session, self.settings.name)]

    def runs(self) -> Sequence[str]:
        """The ids of all runs that the machine holds."""
        return self.ssh.runs()

    def environment(self, requirements: bytes, image: str | None = None, python: str = "") -> str:
        """The id of this lock's environment on this image."""
        return self.ssh.environment(requirements, image, python)

    def environments(self) -> Sequence[StoredEnvironment]:
        """The environments that the machine keeps."""
        return self.ssh.environments()

    def drop_environment(self, environment: str) -> None:
        """Remove it there."""
        self.ssh.drop_environment(environment)


def _never_began(record: Record) -> tuple[str, str]:
    """By what a run ended that Azure ML brought to an end, and in words."""
    if record.status == "Canceled":
        return "cancel", record.tags.get(CANCELLED_TAG) or "cancelled in Azure ML"
    return (
        "environment",
        f"Azure ML did not start the run ({record.status}): {record.message or 'see its logs there'}",
    )


def leaving_of(spec: RunSpec) -> Leaving:
    """What may leave; without a word about it all declared outputs, and no metric."""
    return spec.leaving or Leaving(dict.fromkeys(spec.outputs.values(), "custom_model"))


def attached_check(session: Session, name: str) -> Check:
    """Whether the workspace answers, and has the target."""
    try:
        attached(session, name)
    except ProviderError as error:
        return Check("azureml-attached", CheckStatus.FAIL, error.message, error.reason, error.fix)
    return Check("azureml-attached", CheckStatus.PASS, "Azure ML has the target, and it is ready")


def from_settings(settings: TargetSettings) -> AzuremlVmCompute:
    """The machine that the manifest names, in the repository's workspace."""
    workspace = settings.workspace
    if workspace is None or workspace.block.get("type") != "azureml":
        raise no_workspace(settings.name)
    if not settings.ssh:
        raise Rejected(
            f"target {settings.name} does not say how the site reaches it",
            reason="SshMissing",
            fix="give the machine's ssh block beside azuremlVm",
        )
    return AzuremlVmCompute(settings, shared(workspace))
