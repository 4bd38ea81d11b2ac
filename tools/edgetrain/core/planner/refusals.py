"""What the plan refuses, object by object, with a problem at the line that asks for it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from edgetrain.core.codes import policy
from edgetrain.core.desired import Desired
from edgetrain.core.kinds import ComputeTarget, Experiment, Model
from edgetrain.core.kinds.experiment import Environment
from edgetrain.core.observation import Observation
from edgetrain.core.planner.attachments import standing
from edgetrain.core.ports import EgressLevel
from edgetrain.core.problem import Code, Problem, did_you_mean, problem
from edgetrain.core.recorded import Recorded

Served = Mapping[str, Collection[str]]
# The metrics of a run that Azure ML takes.
MOST_TOLD = 50


def refuse(
    desired: Desired, recorded: Recorded, served: Served, observed: Observation | None
) -> tuple[list[Problem], set[str]]:
    """Problems, and the ids (`experiment/x`, `model/x`) for which nothing is planned."""
    problems: list[Problem] = []
    refused: set[str] = set()
    everything = list(_configuration(desired, served))
    problems += everything
    for name, model in sorted(desired.models.items()):
        found = list(_model(desired, model))
        problems += found
        if found or everything:
            refused.add(f"model/{name}")
    for name, experiment in sorted(desired.experiments.items()):
        if experiment.metadata.retired:
            continue
        found = list(_experiment(desired, experiment, served, observed))
        problems += found
        if found or everything or f"model/{experiment.model}" in refused:
            refused.add(f"experiment/{name}")
    return problems, refused


def _not_served(desired: Desired, port: str, type_: str, served: Served, *pointer: str) -> Iterator[Problem]:
    known = sorted(served[port])
    if type_ not in known:
        document = desired.configuration.document
        yield problem(
            policy.NOT_SERVED,
            document.path,
            document.mark("spec", *pointer, "type"),
            f"{'.'.join(pointer)}: no provider serves {port} of type {type_!r}{did_you_mean(type_, known)}",
            f"use one of: {', '.join(known)}",
        )


def _configuration(desired: Desired, served: Served) -> Iterator[Problem]:
    configuration = desired.configuration
    yield from _not_served(desired, "workspace", configuration.workspace["type"], served, "workspace")
    yield from _not_served(desired, "artifacts", configuration.artifacts["type"], served, "artifacts")
    for name, registry in sorted(configuration.registries.items()):
        yield from _not_served(desired, "registry", registry["type"], served, "registries", name)


def _model(desired: Desired, model: Model) -> Iterator[Problem]:
    document = model.document
    if model.unreviewed:
        yield problem(
            policy.RELEASE_UNREVIEWED,
            document.path,
            document.mark("spec", "release"),
            f"model {model.name} is of high risk, and its versions would be released without a review",
        )
    for index, gate in enumerate(model.gates):
        if gate.slice is not None and model.evaluation is None:
            yield problem(
                policy.FEATURE_NOT_SERVED,
                document.path,
                document.key_mark("spec", "gates", index, "slice"),
                f"the gate on {gate.metric} asks for slices, which only an evaluation gives",
            )
    if model.image.base != "scratch" and model.image.base not in desired.configuration.allowed_bases:
        yield problem(
            policy.BASE_NOT_ALLOWED,
            document.path,
            document.mark("spec", "image", "base"),
            f"base {model.image.base} is not listed in allowedBases",
        )
    own = model.evaluation.environment if model.evaluation else None
    if own and own.image and own.image not in desired.configuration.allowed_bases:
        yield problem(
            policy.BASE_NOT_ALLOWED,
            document.path,
            document.mark("spec", "evaluation", "environment", "image"),
            f"image {own.image} is not listed in allowedBases",
        )


def _experiment(
    desired: Desired, experiment: Experiment, served: Served, observed: Observation | None
) -> Iterator[Problem]:
    document = experiment.document

    def refusal(code: Code, what: str, *pointer: str, fix: str | None = None) -> Problem:
        return problem(code, document.path, document.mark("spec", *pointer), what, fix)

    targets = desired.targets_for(experiment)
    for target in targets:
        if target.type not in served["compute"]:
            yield refusal(
                policy.NOT_SERVED,
                f"compute target {target.metadata.name}: no provider serves type {target.type!r}",
                "compute",
                fix=f"use a target of type: {', '.join(sorted(served['compute']))}",
            )
            return
    for name, source in sorted(experiment.data.items()):
        for target in targets:
            store = desired.configuration.sites[target.site].datastores.get(source.datastore, {})
            if store and store["type"] not in served["datastore"]:
                yield refusal(
                    policy.NOT_SERVED,
                    f"input {name}: no provider serves datastores of type {store['type']!r}",
                    "inputs",
                    name,
                    "datastore",
                    fix=f"use a datastore of type: {', '.join(sorted(served['datastore']))}",
                )
                return
            if store and store["type"] not in target.reads:
                what = f"input {name}: {target.metadata.name} reads no datastore of type {store['type']!r}"
                yield refusal(policy.DATA_NOT_REACHED, what, "inputs", name, "datastore")
                return
    yield from _image(desired, experiment, targets)
    yield from _scoring(desired, experiment, targets, served)
    told = len(told_metrics(desired, experiment))
    if desired.configuration.attaches and told > MOST_TOLD:
        what = f"the workspace would be told {told} metrics of a run, and takes {MOST_TOLD}"
        yield refusal(policy.TOO_MANY_METRICS, what, "metrics")
    if targets and not any(_fits(experiment, target) for target in targets):
        yield refusal(policy.TOO_LARGE_FOR_TARGETS, "no target has the resources that it asks for", "resources")
    if observed is not None:
        for code, what in _observed(desired, experiment, targets, observed):
            yield refusal(code, what, "compute")


def _image(desired: Desired, experiment: Experiment, targets: list[ComputeTarget]) -> Iterator[Problem]:
    document, environment = experiment.document, experiment.environment

    def refusal(code: Code, what: str, *pointer: str) -> Problem:
        return problem(code, document.path, document.mark("spec", *pointer), what)

    for target in targets:
        name = target.metadata.name
        if environment.image and not target.runs_containers:
            yield refusal(policy.IMAGE_NOT_SERVED, f"{name} runs no images", "environment", "image")
        elif target.runs_containers and environment.image is None:
            yield refusal(policy.IMAGE_NEEDED, f"{name} runs containers, and no image is named", "environment")
        else:
            continue
        return
    if environment.image is None:
        return
    if environment.image not in desired.configuration.allowed_bases:
        what = f"image {environment.image} is not listed in allowedBases"
        yield refusal(policy.BASE_NOT_ALLOWED, what, "environment", "image")
    if environment.python is None:
        yield refusal(policy.PYTHON_OF_IMAGE, "which Python the image has is not declared", "environment")


def _scoring(
    desired: Desired, experiment: Experiment, targets: list[ComputeTarget], served: Served
) -> Iterator[Problem]:
    """Whether what the experiment trains can be evaluated on its targets."""
    model = desired.models.get(experiment.model)
    if model is None or model.evaluation is None:
        return
    document, own = model.document, model.evaluation.environment

    def refusal(code: Code, what: str, *pointer: str) -> Problem:
        return problem(code, document.path, document.mark("spec", "evaluation", *pointer), what)

    for target in targets:
        name, stores = target.metadata.name, desired.configuration.sites[target.site].datastores
        if own and own.image and not target.runs_containers:
            yield refusal(policy.IMAGE_NOT_SERVED, f"{name} runs no images", "environment", "image")
            return
        for key, source in sorted(model.evaluation.data.items()):
            type_ = stores.get(source.datastore, {}).get("type")
            if type_ is None:
                what = f"input {key}: the site of {name} has no datastore {source.datastore}"
            elif type_ not in served["datastore"] or type_ not in target.reads:
                what = f"input {key}: {name} reads no datastore of type {type_!r}"
            else:
                continue
            yield refusal(policy.DATA_NOT_REACHED, what, "inputs", key, "datastore")
            return


def told_metrics(desired: Desired, experiment: Experiment) -> list[str]:
    """The names of the metrics that a workspace is told of a run."""
    model = desired.models.get(experiment.model)
    return [*experiment.metrics, *(f"evaluated/{name}" for name in (model.scored if model else ()))]


def _fits(experiment: Experiment, target: ComputeTarget) -> bool:
    asked, has = experiment.resources, target.capacity
    return (
        asked.gpus <= has.gpus
        and (asked.cpus is None or has.cpus is None or asked.cpus <= has.cpus)
        and (asked.memory is None or has.memory is None or asked.memory <= has.memory)
    )


def usable(desired: Desired, experiment: Experiment, target: ComputeTarget, observed: Observation) -> str:
    """Why the target can't take the experiment's runs as it was observed; empty if it can."""
    status = observed.targets.get(target.metadata.name)
    if target.attached and target.metadata.retired:
        return f"{target.metadata.name}: it is retired"
    if held := standing(target, observed).message:
        return f"{target.metadata.name}: {held}"
    if status is None or not status.ready:
        return f"{target.metadata.name}: {status.message if status else 'it was not observed'}"
    wanted = experiment.environment
    if target.runs_containers:
        if wanted.platform not in (None, status.platform):
            return f"{target.metadata.name}: it is {status.platform}"
    elif any(
        one.python not in (None, status.python) or one.platform not in (None, status.platform)
        for one in (wanted, _evaluated_in(desired, experiment))
    ):
        return f"{target.metadata.name}: it has Python {status.python} on {status.platform}"
    if status.egress is not EgressLevel.ENFORCED and requires_enforced(desired, experiment, target):
        return f"{target.metadata.name}: its egress level is {status.egress.value}"
    if advisory(experiment, target, observed):
        return f"{target.metadata.name}: its egress level is advisory, and no waiver allows that"
    return "" if _fits(experiment, target) else f"{target.metadata.name}: it is too small"


def advisory(experiment: Experiment, target: ComputeTarget, observed: Observation) -> bool:
    """Whether Azure ML would run the script where nothing holds it back, and nobody answers for that.

    An expired waiver needs no look here: the guard lets no run of its experiment start.
    """
    status = observed.targets.get(target.metadata.name)
    level = status.egress if status else EgressLevel.ADVISORY
    return target.attached and level is not EgressLevel.ENFORCED and not allows_advisory(experiment)


def allows_advisory(experiment: Experiment) -> bool:
    """Whether a waiver lets the experiment's runs go to Azure ML targets whose level is advisory."""
    return any(waiver.code == policy.ADVISORY_TARGET.id for waiver in experiment.waivers)


def _evaluated_in(desired: Desired, experiment: Experiment) -> Environment:
    """The environment that the model's evaluation names; an open one if it names none."""
    model = desired.models.get(experiment.model)
    return (model.evaluation.environment if model and model.evaluation else None) or Environment()


def requires_enforced(desired: Desired, experiment: Experiment, target: ComputeTarget) -> bool:
    """Whether a datastore that the experiment, or its model's evaluation, reads refuses advisory targets."""
    stores = desired.configuration.sites[target.site].datastores
    model = desired.models.get(experiment.model)
    held_out = model.evaluation.data.values() if model and model.evaluation else ()
    return any(
        stores.get(data.datastore, {}).get("requireEgress") == "enforced"
        for data in (*experiment.data.values(), *held_out)
    )


def _observed(
    desired: Desired, experiment: Experiment, targets: list[ComputeTarget], observed: Observation
) -> Iterator[tuple[Code, str]]:
    """Asked only where targets were observed, which is where something is to be trained."""
    seen = [target for target in targets if target.schedulable and target.metadata.name in observed.targets]
    reasons = [usable(desired, experiment, target, observed) for target in seen]
    if not seen or not all(reasons) or any(standing(target, observed).coming for target in seen):
        return
    ready = [
        target
        for target in seen
        if observed.targets[target.metadata.name].ready and not standing(target, observed).message
    ]
    if not ready:
        code = policy.TARGET_NOT_READY
    elif any(
        requires_enforced(desired, experiment, target)
        and observed.targets[target.metadata.name].egress is not EgressLevel.ENFORCED
        for target in ready
    ):
        code = policy.EGRESS_NOT_ENFORCED
    elif any(advisory(experiment, target, observed) for target in ready):
        code = policy.ADVISORY_TARGET
    else:
        code = policy.PYTHON_NOT_THERE
    yield code, "; ".join(reasons)
