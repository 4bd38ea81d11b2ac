"""From an ended run to its record: what may leave, which outcome it has, what is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from edgetrain.core.decide import Decision
from edgetrain.core.digest import digest_of, tree_digest
from edgetrain.core.errors import Rejected
from edgetrain.core.gate import gates_digest
from edgetrain.core.kinds import Model
from edgetrain.core.ports import (
    ArtifactStore,
    Compute,
    EgressRules,
    Examination,
    Harvest,
    OutputFile,
    RunPhase,
    RunState,
)
from edgetrain.core.quantity import human_bytes
from edgetrain.core.record import API_VERSION, Outcome
from edgetrain.core.scores import SELF_REPORTED

# A large model takes long to look at; bytes a second, in several readings of the same bytes.
SLOWEST_CHECK = 200_000
EXPANSION = 6

# How a run that did not end well is recorded: by what ended it.
ENDINGS: dict[str, tuple[Outcome, str]] = {
    "signal": (Outcome.FAILED, "Killed"),
    "timeout": (Outcome.FAILED, "TimedOut"),
    "memory": (Outcome.FAILED, "OutOfMemory"),
    "environment": (Outcome.FAILED, "EnvironmentFailed"),
    "cancel": (Outcome.CANCELLED, "Cancelled"),
    "outputs-limit": (Outcome.REJECTED, "OutputsTooLarge"),
    "sandbox": (Outcome.REJECTED, "SandboxFailed"),
    "data": (Outcome.REJECTED, "DataChanged"),
}


# Where the content check may find something beside the outputs.
PLACES = ("file names", "log", "metric names", "metrics", "metric history")
_METRIC_FAULT = re.compile(
    r"(?P<file>metrics\.jsonl?|mlflow\.db): (?P<name>.+) (?P<rest>is not a (?:finite )?number)"
)


@dataclass(frozen=True)
class Verdict:
    """An outcome before any gate is asked; None means that the gates decide."""

    outcome: Outcome | None
    reason: str = ""
    message: str = ""


UNDECIDED = Verdict(None)


@dataclass(frozen=True)
class Kept:
    """What passed the check: outputs (as in the record), declared metrics, bytes and files."""

    outputs: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0


def verdict_of(state: RunState, reason: str = "") -> Verdict:
    """What the run's end says by itself."""
    if state.phase is RunPhase.LOST:
        return Verdict(Outcome.LOST, "Lost", state.message or "the run is gone without a trace of how it ended")
    if state.ended_by == "exit":
        if state.exit_code == 0:
            return Verdict(None)
        return Verdict(Outcome.FAILED, "ExitCode", f"the command ended with exit code {state.exit_code}")
    outcome, name = ENDINGS.get(state.ended_by, (Outcome.FAILED, "Ended"))
    if outcome is Outcome.CANCELLED and reason:
        name = reason
    return Verdict(outcome, name, state.message)


def check(facts: Mapping[str, Any], harvest: Harvest) -> Verdict:
    """Whether what the run left may leave the site, and is all that was promised. Names no file of it."""
    if harvest.faults:
        faults = [_public(fault, facts["metrics"]) for fault in harvest.faults[:5]]
        return Verdict(Outcome.REJECTED, "OutputsRefused", "; ".join(faults))
    for name, output in facts["outputs"].items():
        files = files_of(output["path"], harvest)
        if not files:
            return Verdict(Outcome.FAILED, "OutputMissing", f"output {name} was not written to {output['path']}")
        size = sum(file.size for file in files)
        if size > output["maxSize"]:
            allowed = human_bytes(output["maxSize"])
            return Verdict(
                Outcome.REJECTED, "OutputTooLarge", f"output {name} has {human_bytes(size)} of {allowed}"
            )
    finals = final_metrics(harvest)
    missing = [name for name in facts["metrics"] if name not in finals]
    if missing:
        return Verdict(Outcome.FAILED, "MetricMissing", f"not reported: {', '.join(missing)}")
    return Verdict(None)


def _public(fault: str, declared: Collection[str]) -> str:
    """A fault without the name of a metric that nobody declared: a script may write anything there."""
    found = _METRIC_FAULT.fullmatch(fault)
    if found is None or found["name"] in declared:
        return fault
    return f"{found['file']}: a metric that is not declared {found['rest']}"


def rules_of(facts: Mapping[str, Any], harvest: Harvest) -> EgressRules:
    """What the content check is to look at: exactly what would leave."""
    outputs, declared = facts["outputs"].values(), set(facts["metrics"])
    files = {file.path: output["type"] for output in outputs for file in files_of(output["path"], harvest)}
    finals = final_metrics(harvest)
    points = [point for point in harvest.history if point.name in declared]
    size = sum(file.size for file in harvest.files if file.path in files)
    return EgressRules(
        files=files,
        metrics={name: finals[name] for name in facts["metrics"]},
        # A step is a number that leaves, too.
        history=[*((p.name, p.value) for p in points), *((f"{p.name} step", float(p.step)) for p in points)],
        log=facts["logs"] != "site",
        waived=[(waiver["code"], waiver.get("path", "")) for waiver in facts.get("waivers", ())],
        max_expanded=EgressRules.max_expanded + EXPANSION * size,
        seconds=EgressRules.seconds + size // SLOWEST_CHECK,
    )


def place_of(facts: Mapping[str, Any], where: str) -> str:
    """A finding's place in words that may leave: an output by its name in the manifest, never a file's name."""
    for name, output in facts["outputs"].items():
        if PurePosixPath(where).is_relative_to(PurePosixPath(output["path"])):
            return f"output {name}"
    return where if where in PLACES else "the outputs"


def refusal(facts: Mapping[str, Any], examination: Examination) -> Verdict:
    """Whether the content check lets the run's outputs go. Says what and where, never what was there."""
    refused = [finding for finding in examination.findings if not finding.waived]
    said = [f"{found.code} in {place_of(facts, found.where)}: {found.what}" for found in refused[:5]]
    if not examination.complete:
        said.insert(0, f"E708: the content check was not completed: {examination.reason}")
    return Verdict(Outcome.REJECTED, "EgressRefused", "; ".join(said)) if said else Verdict(None)


def final_metrics(harvest: Harvest) -> dict[str, float]:
    """The final numbers; a metric that only has a history ends with its last point."""
    return {point.name: point.value for point in harvest.history} | dict(harvest.metrics)


def files_of(path: str, harvest: Harvest) -> list[OutputFile]:
    """The files of one declared output: the file itself, or all in the folder."""
    root = PurePosixPath(path)
    return [file for file in harvest.files if PurePosixPath(file.path).is_relative_to(root)]


def keep(
    facts: Mapping[str, Any],
    harvest: Harvest,
    compute: Compute,
    run: str,
    artifacts: ArtifactStore,
    scratch: Path,
    before: Callable[[], None],
) -> Kept:
    """Bring the declared outputs into the artifact store, calling `before` before each file. Only declared metrics
    are kept."""
    outputs: dict[str, Any] = {}
    for name, output in facts["outputs"].items():
        files = files_of(output["path"], harvest)
        for file in files:
            if artifacts.size(file.digest) is None:
                before()
                _store(compute, run, file, artifacts, scratch)
        alone = len(files) == 1 and files[0].path == str(PurePosixPath(output["path"]))
        outputs[name] = {
            "type": output["type"],
            "path": output["path"],
            "digest": files[0].digest if alone else tree_digest((file.path, file.digest) for file in files),
            "size": sum(file.size for file in files),
            "files": [{"path": file.path, "size": file.size, "digest": file.digest} for file in files],
        }
    kept = [file for entry in outputs.values() for file in entry["files"]]
    return Kept(
        outputs=outputs,
        metrics={name: final_metrics(harvest)[name] for name in facts["metrics"]},
        files=len(kept),
        bytes=sum(file["size"] for file in kept),
    )


def _store(compute: Compute, run: str, file: OutputFile, artifacts: ArtifactStore, scratch: Path) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as folder:
        local = Path(folder) / "output"
        compute.fetch(run, file.path, local)
        if artifacts.put_file(local) != file.digest:
            raise Rejected(
                "an output changed after it was checked",
                reason="OutputChanged",
                fix="see what still writes to it, then: edgetrain retry RUN --reason ...",
            )


def run_record(
    facts: Mapping[str, Any],
    state: RunState,
    decision: Decision,
    kept: Kept,
    workspace: Mapping[str, str],
    examination: Examination | None = None,
    judged: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The run record; `judged` is what an evaluation says of it in place of the script's own metrics. The same
    facts and the same end give the same bytes, but for the check's seconds."""
    started, ended = state.started, state.ended
    return {
        "apiVersion": API_VERSION,
        "kind": "RunRecord",
        **{key: facts[key] for key in ("experiment", "model", "identity", "identityOf", "attempt", "trial")},
        "outcome": decision.outcome.value,
        "reason": decision.reason,
        "message": decision.message[:500],
        "commit": facts["commit"],
        "manifest": facts["manifest"],
        "provenance": facts["provenance"],
        "target": {
            "name": facts["target"],
            "type": facts["targetType"],
            "site": facts["site"],
            "egress": state.level.value,
            "isolation": dict(state.isolation),
        },
        "started": started,
        "ended": ended,
        "seconds": seconds_between(started, ended),
        "usage": dict(state.usage),
        "inputs": facts["inputs"],
        "parameters": facts["parameters"],
        "environment": {key: facts["identityOf"][key] for key in ("requirements", "image", "python", "platform")},
        "outputs": dict(kept.outputs),
        **(judged or {"metrics": dict(kept.metrics), "metricsSource": SELF_REPORTED}),
        "gates": dict(decision.gates),
        "egress": {
            "level": state.level.value,
            "logs": facts["logs"],
            "files": kept.files,
            "bytes": kept.bytes,
            "waivers": facts.get("waivers", []),
            **({"check": check_json(facts, examination)} if examination else {}),
            **({"code": facts["code"]} if "code" in facts else {}),
        },
        "workspace": dict(workspace),
        "ticket": digest_of(facts),
        "edgetrain": facts["edgetrain"],
        **({"signature": facts["signature"]} if "signature" in facts else {}),
        **({"retry": facts["retry"]} if "retry" in facts else {}),
    }


def check_json(facts: Mapping[str, Any], examination: Examination) -> dict[str, Any]:
    """The content check as the record tells it."""
    return {
        "complete": examination.complete,
        "level": examination.level,
        "files": examination.files,
        "bytes": examination.bytes,
        "fingerprints": examination.fingerprints,
        "coverage": examination.coverage,
        "seconds": round(examination.seconds, 1),
        "findings": [
            {"code": one.code, "where": place_of(facts, one.where), "what": one.what, "waived": one.waived}
            for one in examination.findings
        ],
    }


def undecided(verdict: Verdict, model: Model | None) -> Decision:
    """A decision that no gate had a part in."""
    gates = {"digest": gates_digest(model.gates if model else ()), "results": []}
    outcome = verdict.outcome or Outcome.FAILED
    return Decision(outcome, verdict.reason, verdict.message, gates)


def seconds_between(started: str | None, ended: str | None) -> float | None:
    """Seconds from one RFC 3339 time to another; None if one is not known."""
    if not started or not ended:
        return None
    begin, end = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (started, ended))
    return round((end - begin).total_seconds(), 3)
