"""What of an evaluation's numbers is kept, and what the content check is to look at before they leave."""

from __future__ import annotations

from collections.abc import Mapping

from edgetrain.core.kinds import Model
from edgetrain.core.ports import EgressRules, Harvest
from edgetrain.reconcile.finish import final_metrics

Slices = Mapping[str, Mapping[str, float]]


def missing_scores(model: Model, harvest: Harvest) -> str:
    """What was not reported of what the evaluation promises, or can't be accepted; empty if all is well. Only names
    that the manifest declares are in it."""
    if harvest.faults:
        # A fault may name a metric that nobody declared: the log at the site has the whole of it.
        return "what it left can't be accepted"
    finals = final_metrics(harvest)
    lacking = [name for name in model.scored if name not in finals]
    lacking += [f"slice {name}" for name in _declared(model) if name not in harvest.slices]
    return f"not reported: {', '.join(lacking)}" if lacking else ""


def _declared(model: Model) -> tuple[str, ...]:
    return model.evaluation.slices if model.evaluation else ()


def kept_scores(model: Model, harvest: Harvest) -> tuple[Mapping[str, float], Slices]:
    """The metrics that are kept, and those of each slice: of the slices that are declared, or all."""
    finals, declared = final_metrics(harvest), _declared(model)
    slices = {
        name: {metric: numbers[metric] for metric in model.scored if metric in numbers}
        for name, numbers in sorted(harvest.slices.items())
        if not declared or name in declared
    }
    return {name: finals[name] for name in model.scored}, slices


def rules_of_scores(metrics: Mapping[str, float], slices: Slices) -> EgressRules:
    """All the names and numbers that would leave, as if each slice's were metrics of their own."""
    sliced = {f"{name}/{metric}": value for name, found in slices.items() for metric, value in found.items()}
    return EgressRules(files={}, metrics={**metrics, **sliced})
