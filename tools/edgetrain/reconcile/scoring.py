"""Scores one stored model on held-out data: a detached run under the training contract, which any apply takes up.

A score is kept in the artifact store by evaluation and model, so that nothing is scored twice. No lock is held
while a scoring runs; the slot that it runs in is that of the run which is judged by it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from edgetrain.core.digest import canonical, digest_bytes, short, tree_digest
from edgetrain.core.errors import NotFound, ProviderError, Rejected
from edgetrain.core.evaluation import EVALUATION_FAILED, SCORES_REFUSED, SCORING_FOLDER, model_output
from edgetrain.core.kinds import ComputeTarget, Experiment, Model
from edgetrain.core.kinds.model import MODEL_INPUT
from edgetrain.core.planner.refusals import allows_advisory
from edgetrain.core.ports import Compute, InputMount, Leaving, RunPhase, RunSpec, RunState
from edgetrain.core.record import Outcome
from edgetrain.core.template import render
from edgetrain.reconcile.context import Context
from edgetrain.reconcile.data import measure_input
from edgetrain.reconcile.facts import check_size, limits_of, require_enforced
from edgetrain.reconcile.finish import UNDECIDED, Verdict, check_json, refusal, verdict_of
from edgetrain.reconcile.logs import save_log
from edgetrain.reconcile.scores import kept_scores, missing_scores, rules_of_scores
from edgetrain.reconcile.waiting import wait
from edgetrain.repo.export import export, safe_path
from edgetrain.repo.load import MAX_LOCK_BYTES

SCORINGS = "scorings/"
SCORES = "scores/"
# The run ids of scorings. No experiment's name has a dot, so no run has one of these.
SCORING = re.compile(r".+\.score-[0-9a-f]{12}-[0-9a-f]{12}-[0-9]+")
LOCK_SECONDS = 3600.0
CHUNK = 2**20
# A target that loses a scoring so often in one apply does not bring it to an end.
MOST_LOST = 3
ARTIFACTS_GONE = "ArtifactsGone"


@dataclass(frozen=True)
class Task:
    """One evaluation as it is to be run. `of` are the fields of its identity; `run` is judged by it, and `record`
    is the record that follows from that; `target` is where it runs unless it was begun elsewhere."""

    model: Model
    experiment: Experiment
    target: ComputeTarget
    of: Mapping[str, Any]
    identity: str
    run: str
    record: str

    def key(self, artifact: str) -> str:
        """By what a score is kept."""
        return f"{self.identity.removeprefix('sha256:')}/{artifact.removeprefix('sha256:')}"

    def name(self, artifact: str, attempt: int) -> str:
        """The scoring's run id."""
        return f"{self.model.name}.score-{short(self.identity)}-{short(artifact)}-{attempt}"


@dataclass(frozen=True)
class Measured:
    """The end of one scoring: an `entry` for records, or a verdict that says why there is none."""

    entry: Mapping[str, Any] | None
    verdict: Verdict = UNDECIDED


def score(context: Context, task: Task, outputs: Mapping[str, Any]) -> Measured:
    """Score the model in a record's `outputs`, unless that was done; wait for the end. Raises Stopped if it goes
    on, and ProviderError for what a later apply may find mended."""
    output = outputs[str(model_output(outputs))]
    artifact, artifacts = str(output["digest"]), context.site.artifacts
    key = task.key(artifact)
    if (held := _held(context, key)) is not None:
        return Measured(held)
    if any(artifacts.size(file["digest"]) is None for file in output["files"]):
        raise NotFound(
            f"the model that {task.run} is judged by is not in this site's store",
            reason=ARTIFACTS_GONE,
            fix="evaluate it on the runner of the site that trained it",
        )
    facts = {"target": task.target.metadata.name, "site": task.target.site, "run": task.run, "record": task.record}
    context.step("scoring-ticket")
    facts = json.loads(artifacts.claim(SCORINGS + key, canonical({**facts, "name": task.name(artifact, 1)})))
    target = context.state.desired.targets.get(facts["target"])
    if target is None:
        raise ProviderError(
            f"the evaluation for {task.run} was started on {facts['target']}, which is not declared any more",
            reason="TargetGone",
            fix=f"declare compute/{facts['target']}.yaml again (schedulable: false) until the evaluation is over",
        )
    compute = context.site.aside(target)
    attempt = 1
    # Lost before, or judged and cleared away.
    while compute.inspect(task.name(artifact, attempt)).phase is RunPhase.LOST:
        attempt += 1
    for name in [task.name(artifact, attempt + more) for more in range(MOST_LOST)]:
        if compute.inspect(name).phase is RunPhase.ABSENT:
            _start(context, compute, target, task, output, name)
        context.step("score-wait")
        state = wait(context, compute, name)
        if state.phase is RunPhase.ENDED:
            return _settle(context, compute, target, task, artifact, name, state)
        if (held := _held(context, key)) is not None:  # another run's apply was faster, and cleared it away
            return Measured(held)
    return Measured(None, failed(name, f"its target lost it {MOST_LOST} times"))


def failed(name: str, why: str) -> Verdict:
    """The verdict on a run whose model could not be scored."""
    return Verdict(Outcome.FAILED, EVALUATION_FAILED, f"the evaluation failed: {why} (edgetrain logs {name})")


def _held(context: Context, key: str) -> dict[str, Any] | None:
    held = dict(context.site.artifacts.claims(SCORES + key)).get(SCORES + key)
    return dict(json.loads(held)) if held is not None else None


# --- the start ---------------------------------------------------------------------------------------


def _start(
    context: Context, compute: Compute, target: ComputeTarget, task: Task, output: Mapping[str, Any], name: str
) -> None:
    """Start the scoring: the code is an export of main's tip, the model a copy with the digest of the record."""
    model, evaluation, tree = task.model, task.model.evaluation, context.state.tree
    if evaluation is None:
        raise ValueError("a model without an evaluation is not scored")
    held_out(context, task, target)
    given = _given(context, output, name)
    sources, attached = evaluation.data, target.attached
    allowed = allows_advisory(task.experiment) if attached else context.site.configuration.allow_unsandboxed
    mounts = [
        InputMount(key, context.site.datastore(source.datastore).source(source.path), source.digest, source.single)
        for key, source in sources.items()
    ]
    with TemporaryDirectory(prefix=f"code-{name}-", dir=context.scratch) as folder:
        code = Path(folder) / "code"
        check_size(export(tree, model.evaluation_folder, code, ()), context.site.configuration.code_size)
        spec = RunSpec(
            id=name,
            command=render(evaluation.command, {}, {MODEL_INPUT, *sources}, {}),
            parameters={},
            seed=None,
            code=code,
            requirements=_requirements(context, task),
            image=task.of["image"],
            python=task.of["python"],
            inputs=[given, *mounts],
            outputs={},
            limits=limits_of(task.experiment),
            require_enforced=require_enforced(context.site, sources.values(), allowed),
            leaving=Leaving({}, metrics=model.scored, slices=evaluation.slices),
            tags=tags_of_scoring(context, task),
        )
        context.step("score-start")
        context.tell("Evaluating", name, f"on {target.metadata.name}, for {task.run}")
        compute.start(spec)


def tags_of_scoring(context: Context, task: Task) -> dict[str, str]:
    """What a scoring is found by where it is submitted."""
    told = {"commit": context.state.commit, "model": task.model.name, "run": task.run, "site": context.site.name}
    return {f"edgetrain.{name}": value for name, value in told.items()}


def held_out(context: Context, task: Task, target: ComputeTarget) -> dict[str, Any]:
    """The held-out inputs as records tell them. Raises Rejected if one is not what the evaluation says."""
    found = {}
    for name, source in task.model.evaluation.data.items() if task.model.evaluation else ():
        context.step("score-measure")
        context.tell("Digesting", f"{source.datastore}:{source.path}")
        seen, _ = measure_input(context.site, target, source)
        if seen.digest != source.digest:
            wanted = short(source.digest)
            raise Rejected(
                f"held-out {name} is {short(seen.digest)} at the site, and {wanted} in the evaluation",
                reason="DataDiffers",
                fix=f"bring the data back, or propose it in a pull request: digest: {seen.digest}",
            )
        found[name] = {
            "type": source.type,
            "datastore": source.datastore,
            "path": source.path,
            "digest": seen.digest,
            "files": seen.files,
            "bytes": seen.bytes,
        }
    return found


def _requirements(context: Context, task: Task) -> bytes:
    """The bytes of the lock file that the identity names."""
    own = task.model.evaluation.environment if task.model.evaluation else None
    path = task.model.evaluation_lock if own else task.experiment.lock_path
    data = context.state.tree.read(path, MAX_LOCK_BYTES) if path else b""
    if (digest_bytes(data) if path else None) != task.of["requirements"]:
        raise Rejected(
            f"the lock file of {task.run} is not on main any more",
            reason="LockChanged",
            fix=f"give models/{task.model.name} an evaluation.environment with a lock file of its own",
        )
    return data


def _given(context: Context, output: Mapping[str, Any], name: str) -> InputMount:
    """A copy of the stored model that the scoring reads, made whole or not at all. Raises Rejected for bytes that
    are not those of the record."""
    root, path = PurePosixPath(output["path"]), MODEL_INPUT
    places = {str(PurePosixPath(file["path"]).relative_to(root)): file for file in output["files"]}
    single = list(places) == ["."]
    if single:
        places = {root.name: places["."]}
        path = f"{MODEL_INPUT}/{root.name}"
    folder = context.site.state / SCORING_FOLDER / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as fresh:
            for place, file in places.items():
                _copy(context, str(file["digest"]), Path(fresh) / "whole" / MODEL_INPUT / safe_path(place))
            with suppress(OSError):  # another apply starts the same scoring, and its copy is as good
                (Path(fresh) / "whole").rename(folder)
    digest = tree_digest((place, file["digest"]) for place, file in places.items())
    return InputMount(MODEL_INPUT, context.site.folder(folder).source(path), digest, single)


def _copy(context: Context, digest: str, into: Path) -> None:
    into.parent.mkdir(parents=True, exist_ok=True)
    hasher = hashlib.sha256()
    with context.site.artifacts.open(digest) as source, into.open("wb") as file:
        while chunk := source.read(CHUNK):
            hasher.update(chunk)
            file.write(chunk)
    if "sha256:" + hasher.hexdigest() != digest:
        raise Rejected(
            f"artifact {short(digest)} is damaged in the site's store",
            reason="ArtifactDamaged",
            fix="restore it from a backup of the store (a run without a record still holds it: then delete it "
            "there and apply again); `edgetrain verify --deep` names what else is damaged",
        )
    into.chmod(0o444)


# --- the end -----------------------------------------------------------------------------------------


def _settle(
    context: Context,
    compute: Compute,
    target: ComputeTarget,
    task: Task,
    artifact: str,
    name: str,
    state: RunState,
) -> Measured:
    """Read and check what the scoring measured, keep it, and clear the scoring away."""
    key, artifacts = task.key(artifact), context.site.artifacts
    with artifacts.lock(f"score/{short(task.identity)}-{short(artifact)}", timeout=LOCK_SECONDS):
        if (held := _held(context, key)) is not None:
            return Measured(held)
        measured = _measured(context, compute, target, task, artifact, name, state)
        context.step("score-log")
        save_log(context, compute, name, target.metadata.name)
        if measured.entry is None:
            return measured
        context.step("score")
        kept = dict(json.loads(artifacts.claim(SCORES + key, canonical(measured.entry))))
        clear(context, compute, key, name)
    return Measured(kept)


def _measured(
    context: Context,
    compute: Compute,
    target: ComputeTarget,
    task: Task,
    artifact: str,
    name: str,
    state: RunState,
) -> Measured:
    verdict = verdict_of(state)
    if verdict.outcome is Outcome.CANCELLED:
        return Measured(None, verdict)
    if verdict.outcome is not None:
        return Measured(None, failed(name, verdict.message))
    inputs = held_out(context, task, target)
    context.step("score-read")
    harvest = compute.harvest(name, {})
    missing = missing_scores(task.model, harvest)
    if missing:
        return Measured(None, failed(name, missing))
    metrics, slices = kept_scores(task.model, harvest)
    context.step("score-examine")
    examination = compute.examine(name, rules_of_scores(metrics, slices))
    refused = refusal({"outputs": {}}, examination)
    if refused.outcome is not None:
        return Measured(None, Verdict(Outcome.REJECTED, SCORES_REFUSED, refused.message))
    entry = {
        "artifact": artifact,
        "metrics": metrics,
        "slices": slices,
        "inputs": inputs,
        "target": target.metadata.name,
        "egress": {"level": state.level.value, "check": check_json({"outputs": {}}, examination)},
    }
    return Measured(entry)


def clear(context: Context, compute: Compute, key: str, name: str) -> None:
    """Clear a scoring away, and those of the same model before it. A target that can't be reached now keeps them,
    and the ticket, until a later apply."""
    base, _, last = name.rpartition("-")
    context.step("score-forget")
    try:
        for attempt in range(1, int(last) + 1):
            compute.forget(f"{base}-{attempt}")
    except ProviderError as error:
        context.tell("Note", name, f"it is cleared away by a later apply: {error.message}")
        return
    models = context.site.state / SCORING_FOLDER
    # The last two are of an apply that was killed at its start.
    for place, left in ((models, f"{base}-*"), (models, f".{base}-*"), (context.scratch, f"code-{base}-*")):
        for folder in place.glob(left):
            shutil.rmtree(folder, ignore_errors=True)
    context.step("score-release")
    context.site.artifacts.release_claim(SCORINGS + key)


def tidy_scorings(context: Context) -> None:
    """Clear what is left of scorings that nobody waits for: they are over, or what they were for has its record."""
    recorded, artifacts = context.state.recorded, context.site.artifacts
    done = {record.path for record in (*recorded.runs, *recorded.evaluations)}
    for claim, value in list(artifacts.claims(SCORINGS)):
        facts, key = json.loads(value), claim.removeprefix(SCORINGS)
        if facts["site"] != context.site.name or (facts["record"] not in done and _held(context, key) is None):
            continue
        target = context.state.desired.targets.get(facts["target"])
        if target is None:
            context.step("score-release")
            artifacts.release_claim(claim)  # nothing is left to ask
            continue
        try:
            compute = context.site.aside(target)
            name = last_attempt(compute, facts)
            if compute.inspect(name).phase not in (RunPhase.ABSENT, RunPhase.LOST, RunPhase.ENDED):
                context.step("score-cancel")
                compute.cancel(name, "nobody waits for it")
            clear(context, compute, key, name)
        except ProviderError as error:
            context.tell("Note", facts["name"], f"it is cleared away by a later apply: {error.message}")


def last_attempt(compute: Compute, facts: Mapping[str, Any]) -> str:
    """The name of the last attempt of a scoring that was ever started; the first if none was."""
    base, attempt = str(facts["name"]).rpartition("-")[0], 1
    while compute.inspect(f"{base}-{attempt + 1}").phase is not RunPhase.ABSENT:
        attempt += 1
    return f"{base}-{attempt}"
