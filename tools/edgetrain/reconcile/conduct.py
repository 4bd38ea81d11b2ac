"""One run from ticket to record. Every step is check-then-act, so any apply can take it up anywhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgetrain.core.decide import decide
from edgetrain.core.digest import canonical, short
from edgetrain.core.egress import code_json
from edgetrain.core.errors import ProviderError, Rejected, Stopped
from edgetrain.core.kinds import ComputeTarget, Experiment
from edgetrain.core.kinds.compute import ATTACHED
from edgetrain.core.plan import Change, Operation
from edgetrain.core.ports import Compute, DataDigest, Harvest, RunPhase, RunState, TrackedRun
from edgetrain.core.quantity import human_bytes
from edgetrain.core.record import MAX_RECORD_BYTES, Outcome, parse_record, run_path
from edgetrain.core.template import literal
from edgetrain.reconcile.context import Context, manifest_digest, provenance_of
from edgetrain.reconcile.data import measure_input
from edgetrain.reconcile.facts import leaving_of, run_spec, tags_of, ticket, ticket_name
from edgetrain.reconcile.finish import (
    Kept,
    Verdict,
    check,
    keep,
    refusal,
    rules_of,
    run_record,
    undecided,
    verdict_of,
)
from edgetrain.reconcile.logs import save_log, tell_log
from edgetrain.reconcile.observe import GIVEN_UP, TICKETS
from edgetrain.reconcile.report import Result, Status
from edgetrain.reconcile.tidying import tidy
from edgetrain.repo.export import export
from edgetrain.repo.history import last_change
from edgetrain.repo.load import MAX_LOCK_BYTES
from edgetrain.repo.tree import Tree

POLL_SECONDS = 0.1
MOST_SECONDS = 5.0
# Another apply may be storing a large model under the same lock.
LOCK_SECONDS = 3600.0


def conduct(context: Context, change: Change, target: ComputeTarget, freed: Callable[[], None]) -> Result:
    """Train (or adopt) one run, wait for its end, and record it; `freed` is called when it has ended.

    Raises Stopped if the run goes on: asked to stop meanwhile, or not to wait.
    """
    experiment = context.state.desired.experiments[change.subject["experiment"]]
    site = context.site
    if (given_up := given_up_on(context, change)) is not None:
        freed()
        state = RunState(RunPhase.LOST, message="a person gave it up: its target is gone for good")
        return finish(context, site.compute(target), experiment, given_up, state)
    facts = running(context, change, target) if change.operation is Operation.ADOPT else None
    if facts is None:
        data, staged = measure(context, experiment, target, change.subject["identityOf"]["inputs"])
        if change.subject["identity"] is None:
            raise Rejected(
                "the data could not be digested when the plan was made", reason="IdentityUnknown", fix="apply again"
            )
        facts = take_ticket(context, change, experiment, target, data, staged)
    name = ticket_name(facts)
    if facts["target"] != target.metadata.name:
        target = context.state.desired.targets[facts["target"]]
    compute = site.compute(target)
    done = recorded_elsewhere(context, facts)
    if done is not None:
        tidy(context, compute, facts)
        return done
    start(context, compute, experiment, facts)
    state = wait(context, compute, name)
    freed()
    with context.finishing:
        return finish(context, compute, experiment, facts, state)


def running(context: Context, change: Change, target: ComputeTarget) -> dict[str, Any] | None:
    """The ticket of a run that was started, whatever became of its data since; None if it still must be."""
    name = str(change.subject["run"])
    held = dict(context.site.artifacts.claims(TICKETS)).get(TICKETS + name)
    if held is None or context.site.compute(target).inspect(name).phase is RunPhase.ABSENT:
        return None
    facts: dict[str, Any] = json.loads(held)
    return facts


def given_up_on(context: Context, change: Change) -> dict[str, Any] | None:
    """The ticket of a started run that a person gave up, for its target never answers again."""
    if change.operation is not Operation.ADOPT:
        return None
    name, artifacts = str(change.subject["run"]), context.site.artifacts
    held = dict(artifacts.claims(TICKETS + name)).get(TICKETS + name)
    if held is None or GIVEN_UP + name not in dict(artifacts.claims(GIVEN_UP + name)):
        return None
    facts: dict[str, Any] = json.loads(held)
    return facts


def recorded_elsewhere(context: Context, facts: Mapping[str, Any]) -> Result | None:
    """The result of a run that another apply has recorded since this one read main."""
    git, branch = context.state.git, context.site.configuration.branch
    path = run_path(facts["experiment"], facts["identity"], facts["attempt"])
    data = git.show(git.tip(branch), path, limit=MAX_RECORD_BYTES)
    if data is None:
        return None
    record = parse_record(path, data)
    reason, message = str(record.data["reason"]), str(record.data["message"])
    outcome = Outcome(record.data["outcome"])
    return Result(ticket_name(facts), "train", Status.UNCHANGED, reason, message, outcome=outcome)


def still_there(context: Context, facts: Mapping[str, Any]) -> bool:
    """Whether main still has the experiment and its model: a record without them would be a problem of main."""
    git = context.state.git
    tip = git.tip(context.site.configuration.branch)
    paths = (f"experiments/{facts['experiment']}/experiment.yaml", f"models/{facts['model']}/model.yaml")
    return all(git.show(tip, path) is not None for path in paths)


def measure(
    context: Context, experiment: Experiment, target: ComputeTarget, expected: Mapping[str, str | None]
) -> tuple[dict[str, DataDigest], list[str]]:
    """Digest every data input where it lies; and name those that the target holds a copy of its own of.

    Raises Rejected if one is not what the identity says.
    """
    found, staged = {}, []
    for name, source in experiment.data.items():
        context.step("measure")
        context.tell("Digesting", f"{source.datastore}:{source.path}")
        seen, copied = measure_input(context.site, target, source)
        if copied:
            staged.append(name)
        if expected[name] is not None and seen.digest != expected[name]:
            wanted = short(str(expected[name]))
            raise Rejected(
                f"input {name} is {short(seen.digest)} at the site and {wanted} in the manifest",
                reason="DataDiffers",
                fix=f"propose the new data in a pull request: digest: {seen.digest}",
            )
        found[name] = seen
    return found, sorted(staged)


def take_ticket(
    context: Context,
    change: Change,
    experiment: Experiment,
    target: ComputeTarget,
    data: Mapping[str, DataDigest],
    staged: list[str],
) -> dict[str, Any]:
    """Claim the attempt in the artifact store; the answer is ours, or that of whoever was first."""
    state = context.state
    merged = last_change(state.git, state.commit, experiment.folder, exclude=[f"{experiment.folder}/runs"])
    facts = ticket(
        change,
        experiment,
        target,
        data,
        commit=state.commit,
        provenance=provenance_of(context, merged.commit) if merged else {},
        manifest=manifest_digest(context, experiment.document.path),
        code=code_json(state.desired.snapshots[experiment.name]),
    ) | {"staged": staged}
    context.step("ticket")
    held = context.site.artifacts.claim(TICKETS + ticket_name(facts), canonical(facts))
    mine: dict[str, Any] = json.loads(held)
    return mine


def start(context: Context, compute: Compute, experiment: Experiment, facts: Mapping[str, Any]) -> None:
    """Start the run unless it was ever started; the code is an export of the ticket's commit."""
    name = ticket_name(facts)
    if compute.inspect(name).phase is not RunPhase.ABSENT:
        context.tell("Adopted", name)
        return
    context.scratch.mkdir(parents=True, exist_ok=True)
    # A folder of this apply's own: another may be starting the same run at this moment.
    with TemporaryDirectory(prefix=f"code-{name}-", dir=context.scratch) as folder:
        code = Path(folder) / "code"
        allowed = context.site.configuration.code_size
        requirements = export_code(context.state.tree, experiment, code, allowed)
        python = facts["identityOf"]["python"]
        data = {key: entry["digest"] for key, entry in facts["inputs"].items()}
        attached = facts["targetType"] in ATTACHED
        spec = run_spec(experiment, facts["trial"], name, code, requirements, python, context.site, data, attached)
        spec = replace(spec, leaving=leaving_of(facts), tags=tags_of(facts))
        context.step("start")
        context.tell("Starting", name, f"on {facts['target']}")
        compute.start(spec)


def export_code(tree: Tree, experiment: Experiment, folder: Path, allowed: int) -> bytes:
    """Write the experiment's exact files into `folder`; answer the lock file's bytes.

    Raises Rejected if they are larger than `allowed` bytes: the classic accident is data beside the script.
    """
    size = export(tree, experiment.code_folder, folder)
    if size > allowed:
        raise Rejected(
            f"the code has {human_bytes(size)} and {human_bytes(allowed)} are allowed",
            reason="CodeTooLarge",
            fix="keep data out of the experiment's folder: it belongs in a datastore",
        )
    return tree.read(experiment.lock_path, MAX_LOCK_BYTES) if experiment.lock_path else b""


def wait(context: Context, compute: Compute, name: str) -> RunState:
    """Poll until the run has ended or is lost, less often the longer it runs."""
    shown, began = None, time.monotonic()
    while True:
        state = compute.inspect(name)
        if state.phase in (RunPhase.ENDED, RunPhase.LOST):
            return state
        if state.phase is not shown:
            shown = state.phase
            context.tell(state.phase.value.capitalize(), name)
        if not context.waits or context.stop.wait(_pause(time.monotonic() - began)):
            raise Stopped(f"{name} goes on; the next apply adopts it", reason="LeftRunning")


def _pause(seconds: float) -> float:
    """Seconds until the next look at a run that was watched for so long: a fiftieth, within bounds."""
    return min(max(seconds / 50, POLL_SECONDS), MOST_SECONDS)


def finish(
    context: Context, compute: Compute, experiment: Experiment | None, facts: Mapping[str, Any], state: RunState
) -> Result:
    """Check, store, judge, track and record an ended run; then clear it away."""
    name = ticket_name(facts)
    context.tell("Checking", name)
    with context.site.artifacts.lock(f"run/{name}", timeout=LOCK_SECONDS):
        done = recorded_elsewhere(context, facts)
        if done is not None:
            return done
        if not still_there(context, facts):
            tidy(context, compute, facts)
            message = f"{facts['experiment']} was deleted before it had a record, so none is written"
            return Result(name, "train", Status.APPLIED, "Superseded", message, outcome=Outcome.CANCELLED)
        verdict = verdict_of(state, "Superseded" if experiment is None else "")
        harvest = Harvest((), {})
        if verdict.outcome is None:
            verdict = data_unchanged(context, experiment, facts)
        if verdict.outcome is None:
            harvest = compute.harvest(name, {key: value["path"] for key, value in facts["outputs"].items()})
            verdict = check(facts, harvest)
        examination = None
        if verdict.outcome is None:
            context.step("examine")
            examination = compute.examine(name, rules_of(facts, harvest))
            verdict = refusal(facts, examination)
        kept = Kept()
        if verdict.outcome is None:
            if facts["logs"] != "site":
                tell_log(context, compute, name)
            storing = partial(context.step, "artifacts")
            kept = keep(facts, harvest, compute, name, context.site.artifacts, context.scratch, storing)
        model = context.state.desired.models.get(facts["model"])
        if verdict.outcome is None and model is not None:
            inputs = {key: value["digest"] for key, value in facts["inputs"].items()}
            decision = decide(
                context.state.desired,
                context.state.recorded,
                model,
                experiment,
                facts["identity"],
                kept.metrics,
                inputs,
            )
        else:
            decision = undecided(verdict, model)
        context.step("track")
        workspace = track(context, facts, state, decision.outcome, kept, harvest)
        record = run_record(facts, state, decision, kept, workspace, examination)
        context.step("log")
        save_log(context, compute, name, facts["target"])
        context.commit_record(
            run_path(facts["experiment"], facts["identity"], facts["attempt"]),
            record,
            f"Record run {name}: {decision.outcome.value}",
            [("Run", name), ("Model", facts["model"])],
        )
        tidy(context, compute, facts)
    return Result(
        change=name,
        operation="train",
        status=Status.APPLIED,
        reason=decision.reason,
        message=decision.message,
        outcome=decision.outcome,
    )


def data_unchanged(context: Context, experiment: Experiment | None, facts: Mapping[str, Any]) -> Verdict:
    """Whether the inputs that were read in place still are what the run was to read."""
    for name, entry in facts["inputs"].items():
        if experiment is not None and name not in facts.get("staged", ()):
            seen = context.site.datastore(entry["datastore"]).digest(entry["path"])
            if seen.digest != entry["digest"]:
                return Verdict(Outcome.REJECTED, "DataChanged", f"input {name} changed while the run read it")
    return Verdict(None)


def track(
    context: Context,
    facts: Mapping[str, Any],
    state: RunState,
    outcome: Outcome,
    kept: Kept,
    harvest: Harvest,
) -> dict[str, str]:
    """Tell the workspace; what the record says of it."""
    declared = set(facts["metrics"])
    number = context.site.workspace.track(
        TrackedRun(
            id=ticket_name(facts),
            experiment=facts["experiment"],
            outcome=outcome.value,
            parameters={key: literal(value) for key, value in facts["parameters"].items()},
            metrics=kept.metrics,
            history=[point for point in harvest.history if kept.metrics and point.name in declared],
            # All of them: the apply that submitted the run may have been killed before it could tell any.
            tags={**tags_of(facts), "edgetrain.target": facts["target"], "edgetrain.outcome": outcome.value},
            started=state.started,
            ended=state.ended,
        )
    )
    return {"type": context.site.configuration.workspace["type"], "run": number}


def cancel_superseded(context: Context, change: Change) -> Result:
    """End a run that nobody wants any more, and record it as cancelled."""
    facts = change.subject
    name = str(facts["run"])
    target = context.state.desired.targets.get(facts["target"])
    if target is None:
        raise target_gone(name, facts["target"])
    compute = context.site.compute(target)
    context.step("cancel")
    compute.cancel(name, "Superseded")
    state = wait(context, compute, name)
    return finish(context, compute, None, {k: v for k, v in facts.items() if k != "run"}, state)


def target_gone(run: str, target: str) -> ProviderError:
    """The refusal of a run whose target was taken out of the manifests."""
    return ProviderError(
        f"{run} was started on {target}, which is not declared any more",
        reason="TargetGone",
        fix=f"declare compute/{target}.yaml again (schedulable: false) until the run has its record",
    )
