"""Recomputes by what runs were judged: gates, evaluation and scores, from what main asked of their model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgetrain.core.decide import decide, scores_of
from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_of
from edgetrain.core.evaluation import artifact_of, version_artifact
from edgetrain.core.gate import GateStatus, Scores, data_digest
from edgetrain.core.kinds import Model, ModelVersion
from edgetrain.core.ports import Check
from edgetrain.core.record import EvaluationRecord, Outcome, RunRecord
from edgetrain.core.recorded import Recorded
from edgetrain.core.scores import EVALUATED, SELF_REPORTED
from edgetrain.reconcile.verify_asked import Asked, Demands
from edgetrain.reconcile.verify_checks import LACKING, UNSHALLOW, UNTOLD, held, untold
from edgetrain.repo.git import WHOLE

DECIDED = (Outcome.CANDIDATE, Outcome.NOT_BETTER)
PASSED = frozenset({GateStatus.PASSED.value, GateStatus.NO_REFERENCE.value})
_COMPARES = "notWorseThan "
Judged = RunRecord | EvaluationRecord


class Judgements:
    """Every judgement of one state; `shallow`: its history may be cut off."""

    def __init__(self, desired: Desired, recorded: Recorded, demands: Demands, shallow: bool) -> None:
        self._desired, self._recorded, self._demands, self._shallow = desired, recorded, demands, shallow
        self._versions = {version.id: version for version in desired.versions.values()}

    def checks(self, record: Judged, run: RunRecord) -> Iterator[Check]:
        """Whether the verdict in the run's own record, or in a later one, follows from what main asked and from the
        numbers that it tells."""
        try:
            yield from list(self._checks(record, run))
        except (AttributeError, KeyError, TypeError, ValueError):
            yield held("gates", f"{record.path} has all the parts of a judgement", False)

    def _checks(self, record: Judged, run: RunRecord) -> Iterator[Check]:
        told, digest = record.data.get("evaluation"), record.data["gates"]["digest"]
        metrics = _metrics(record, run)
        yield _outcome(record, metrics)
        yield held("scores", f"{record.path} says whose its metrics are", _sources(record, run))
        if told is not None:
            yield from self._scored(record, run, told)
        asked = self._demands.with_gates(run.model, digest)
        if not asked:
            yield self._absent("gates", f"{record.path} was judged by gates that main had", run)
            return
        labels = _labels(record, told)
        if record.outcome in DECIDED:
            asked = self._demands.with_gates(run.model, digest, labels)
            if not asked:
                what = f"{record.path} was compared with the versions that main's channels named"
                yield self._absent("gates", what, run)
                return
        fitting = next((one for one in asked if self._by(one, record, run, told)), None)
        if fitting is None:
            what = "was scored by an evaluation" if told is not None else "was judged without an evaluation"
            yield self._absent("evaluation", f"{record.path} {what} as main asked with its gates", run)
            return
        if told is not None and "metrics" in told:
            what = f"{record.path} tells where its held-out data lay, as main had it"
            lay = any(_places(one.model, told) for one in self._demands.of(run.model))
            yield held("evaluation", what, lay)
        if record.outcome in DECIDED:
            yield from self._verdict(record, run, fitting.model, labels, metrics)

    def _absent(self, name: str, what: str, run: RunRecord) -> Check:
        """Main never asked for it; where that can't be told, that."""
        if self._shallow:
            return untold(name, f"it can't be told whether {what}: history is cut off", UNTOLD, UNSHALLOW)
        if self._demands.lacking(run.model):
            return untold(name, f"it can't be told whether {what}: this clone lacks objects", LACKING, WHOLE)
        if run.model in self._demands.unread:
            what = f"it can't be told whether {what}: a manifest of then is not read any more"
            return untold(name, what, "FormUnknown", "verify with the version of then")
        return held(name, what, False)

    def _by(self, asked: Asked, record: Judged, run: RunRecord, told: Mapping[str, Any] | None) -> bool:
        """Whether this is what the record was judged by."""
        if told is None:
            # What failed by itself was not scored, whatever the model asks.
            return record.outcome not in DECIDED or asked.model.evaluation is None
        fields = self._demands.fields(asked, run.data["identityOf"])
        return fields is not None and digest_of(fields) == told["identity"]

    def _scored(self, record: Judged, run: RunRecord, told: Mapping[str, Any]) -> Iterator[Check]:
        """Whether it tells the scores of the model that the run made, and of the versions that it names."""
        own = artifact_of(run.data["outputs"]) if run.data["outputs"] else None
        right = told.get("artifact") == own and told.get("metrics", {}) == record.data.get("metrics")
        whole = "metrics" not in told or told["inputs"].keys() == told["identityOf"]["inputs"].keys()
        for entry in told["references"].values():
            version = self._versions.get(str(entry.get("version")))
            right = right and (version is None or self._artifact(version) == entry.get("artifact"))
        yield held("scores", f"{record.path} tells of the models that were scored", right and whole)
        for entry in (told, *told["references"].values()):
            first = self._recorded.score(told["identity"], entry.get("artifact")) if "metrics" in entry else None
            same = first is None or all(first[key] == entry[key] for key in ("metrics", "slices"))
            if first is not None and not same and first["target"] != entry["target"]:
                what = f"{record.path}: the same evaluation gave other scores of the same model on another target"
                yield untold("scores", what, "ScoredTwice", "see whether the evaluation gives the same twice")
            else:
                yield held("scores", f"{record.path} has the scores that other records have of the same", same)

    def _artifact(self, version: ModelVersion) -> str | None:
        return version_artifact(self._recorded, version) if self._recorded.run(version.record) else None

    def _verdict(
        self, record: Judged, run: RunRecord, model: Model, labels: Mapping[str, str], metrics: Mapping[str, float]
    ) -> Iterator[Check]:
        """Whether the gates' results are those that its numbers give, beside what the channels had."""
        told = record.data.get("evaluation")
        if told is not None:
            candidate = scores_of("candidate", {"metrics": metrics, "evaluation": told})
            channels = {channel: _beside(entry, told["identity"]) for channel, entry in told["references"].items()}
        else:
            if not all(label in self._versions for label in labels.values()):
                return  # a version that is gone is told elsewhere
            candidate = Scores("candidate", metrics, data_digest(run.input_digests))
            channels = {c: scores_of(label, self._versions[label].spec) for c, label in labels.items()}
        identity, inputs = run.identity, run.input_digests
        found = decide(self._desired, self._recorded, model, None, identity, metrics, inputs, (candidate, channels))
        same = found.gates["results"] == record.data["gates"]["results"]
        told_of = record.outcome, record.data.get("reason")
        better = told_of == (Outcome.NOT_BETTER, "BetterTrial") and found.outcome is Outcome.CANDIDATE
        what = f"outcome, reason and the gates' results in {record.path} are those of its metrics"
        yield held("gates", what, same and (better or told_of == (found.outcome, found.reason)))


def _outcome(record: Judged, metrics: Mapping[str, float]) -> Check:
    """Whether the outcome follows from the gates' results, and those from the metrics."""
    results = [one for one in record.data["gates"]["results"] if isinstance(one, Mapping)]
    passed = all(one.get("status") in PASSED for one in results)
    outcome, reason = record.outcome, record.data.get("reason")
    right = outcome is not Outcome.CANDIDATE or passed
    right = right and not (outcome is Outcome.NOT_BETTER and reason == "GatesFailed" and passed)
    evaluation = record.data.get("evaluation") or {}
    right = right and all(_follows(one, metrics, evaluation) for one in results)
    return held("gates", f"the outcome in {record.path} follows from its metrics and gates", right)


def _follows(result: Mapping[str, Any], metrics: Mapping[str, float], evaluation: Mapping[str, Any]) -> bool:
    """Whether one result is what its own numbers say, as far as it says by which rule; and those of its slice."""
    value, bound, metric = result.get("value"), result.get("bound"), str(result.get("metric"))
    part, rule = result.get("slice"), str(result.get("rule"))
    own = evaluation.get("slices", {}).get(part, {}) if part else metrics
    if value is not None and own.get(metric, value if not part else None) != value:
        return False
    if evaluation and rule.startswith("notWorseThan") and result.get("status") == GateStatus.PASSED.value:
        beside = evaluation["references"].get(rule.partition(" ")[2], {})
        scores = beside.get("slices", {}).get(part, {}) if part else beside.get("metrics", {})
        if metric not in scores:  # measured on nothing, or on other data
            return False
    if result.get("rule") not in ("min", "max") or value is None or bound is None:
        return True
    good = bool(value >= bound if result["rule"] == "min" else value <= bound)
    return (result.get("status") == GateStatus.PASSED.value) == good


def _metrics(record: Judged, run: RunRecord) -> Mapping[str, float]:
    """What the gates looked at; records of the first released format told no metrics of a later judgement."""
    told = record.data.get("metrics")
    return told if isinstance(told, dict) else run.reported


def _sources(record: Judged, run: RunRecord) -> bool:
    data = record.data
    if "metrics" not in data:
        return True
    evaluated = "evaluation" in data
    reported = data.get("selfReported") if evaluated else data["metrics"]
    return data.get("metricsSource") == (EVALUATED if evaluated else SELF_REPORTED) and reported == run.reported


def _labels(record: Judged, told: Mapping[str, Any] | None) -> dict[str, str]:
    """By channel, the version that the record says it was compared with."""
    if told is not None:
        return {channel: str(entry.get("version")) for channel, entry in told["references"].items()}
    found = {}
    for one in record.data["gates"]["results"]:
        rule, label = (one.get("rule"), one.get("reference")) if isinstance(one, Mapping) else (None, None)
        if isinstance(rule, str) and rule.startswith(_COMPARES) and isinstance(label, str):
            found[rule.removeprefix(_COMPARES)] = label
    return found


def _beside(entry: Mapping[str, Any], identity: str) -> Scores:
    # Without metrics there is no identity to share, so nothing is comparable.
    by = identity if "metrics" in entry else ""
    return Scores(str(entry.get("version")), entry.get("metrics", {}), by, entry.get("slices", {}))


def _places(model: Model, told: Mapping[str, Any]) -> bool:
    sources = model.evaluation.data if model.evaluation else {}
    return bool(sources) and all(
        name in sources
        and (entry.get("type"), entry.get("datastore"), entry.get("path"))
        == (sources[name].type, sources[name].datastore, sources[name].path)
        for name, entry in told["inputs"].items()
    )
