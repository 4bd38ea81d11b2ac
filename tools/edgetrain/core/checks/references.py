"""Checks that every name leads somewhere: targets, sites, datastores, secrets, models, registries."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from edgetrain.core.checks.attached import check_attached
from edgetrain.core.checks.contract import check_contract
from edgetrain.core.checks.evaluation import check_evaluations
from edgetrain.core.checks.records import check_records
from edgetrain.core.checks.secrets import secrets_in
from edgetrain.core.checks.versions import check_models, check_versions
from edgetrain.core.codes import references as codes
from edgetrain.core.desired import Desired
from edgetrain.core.document import Document, Pointer
from edgetrain.core.kinds import ComputeTarget, Experiment
from edgetrain.core.problem import Code, Problem, did_you_mean, problem, shown
from edgetrain.core.recorded import Recorded

PUBLIC_CLOUDS = ("AzureCloud", "AzureChinaCloud", "AzureUSGovernment")


def check_references(desired: Desired, recorded: Recorded, broken: Collection[str] = ()) -> list[Problem]:
    """All problems and warnings, sorted. `broken` are paths of files that are there but can't be read: what
    they would have declared is not called unknown."""
    found: list[Problem] = []
    found += _configuration(desired, broken)
    for target in desired.targets.values():
        found += _target(desired, target)
        if not target.metadata.retired:
            found += check_attached(desired, target)
    for experiment in desired.experiments.values():
        if not experiment.metadata.retired:
            found += _experiment(desired, experiment, broken)
            found += check_contract(experiment)
    found += check_models(desired, broken)
    found += check_evaluations(desired)
    found += check_versions(desired, recorded, broken)
    found += check_records(desired, recorded, broken)
    return sorted(set(found))


def unknown(
    code: Code,
    document: Document,
    pointer: Pointer,
    kind: str,
    name: str,
    known: Collection[str],
    key: bool = False,
) -> Problem:
    """`unknown <kind> "<name>"`, with the nearest known name."""
    what = f'unknown {kind} "{shown(name)}"{did_you_mean(name, known)}'
    return problem(code, document.path, document.mark(*pointer), what)


def _configuration(desired: Desired, broken: Collection[str]) -> Iterator[Problem]:
    configuration = desired.configuration
    document = configuration.document
    spec = document.data["spec"]
    clouds = {*PUBLIC_CLOUDS, *spec.get("clouds", {})}
    places: list[tuple[Pointer, Any]] = [(("spec", "workspace", "cloud"), configuration.workspace.get("cloud"))]
    places += [(("spec", "sites", name, "cloud"), site.get("cloud")) for name, site in spec["sites"].items()]
    for pointer, cloud in places:
        if cloud is not None and cloud not in clouds:
            yield unknown(codes.UNKNOWN_CLOUD, document, pointer, "cloud", cloud, clouds)
    for key in ("workspace", "sites", "artifacts", "registries", "machine"):
        for where, name in secrets_in(spec.get(key, {}), ("spec", key)):
            if name not in configuration.secrets:
                yield unknown(codes.UNKNOWN_SECRET, document, where, "secret", name, configuration.secrets)
    for secret, block in configuration.secrets.items():
        for index, name in enumerate(block.get("targets", ())):
            if name not in desired.targets and f"compute/{name}.yaml" not in broken:
                where = ("spec", "secrets", secret, "targets", index)
                yield unknown(codes.UNKNOWN_TARGET, document, where, "compute target", name, desired.targets)


def _target(desired: Desired, target: ComputeTarget) -> Iterator[Problem]:
    configuration, document = desired.configuration, target.document
    name = target.metadata.name
    if target.site not in configuration.sites:
        yield unknown(codes.UNKNOWN_SITE, document, ("spec", "site"), "site", target.site, configuration.sites)
    for where, secret in secrets_in(document.data["spec"], ("spec",)):
        if secret not in configuration.secrets:
            yield unknown(codes.UNKNOWN_SECRET, document, where, "secret", secret, configuration.secrets)
        elif name not in configuration.secrets[secret].get("targets", (name,)):
            what = f'the secret "{shown(secret)}" is not for the target "{shown(name)}"'
            yield problem(codes.SECRET_NOT_ALLOWED, document.path, document.mark(*where), what)


def _experiment(desired: Desired, experiment: Experiment, broken: Collection[str]) -> Iterator[Problem]:
    document = experiment.document
    model = desired.models.get(experiment.model)
    if model is None:
        if f"models/{experiment.model}/model.yaml" not in broken:
            yield unknown(
                codes.UNKNOWN_MODEL, document, ("spec", "model"), "model", experiment.model, desired.models
            )
    elif model.metadata.retired:
        what = f'the model "{model.name}" is retired, and the experiment is not'
        yield problem(codes.MODEL_RETIRED, document.path, document.mark("spec", "model"), what)
    targets = desired.targets_for(experiment)
    if experiment.compute is not None:
        if not targets and f"compute/{experiment.compute}.yaml" not in broken:
            known, name = desired.targets, experiment.compute
            yield unknown(codes.UNKNOWN_TARGET, document, ("spec", "compute"), "compute target", name, known)
    elif not targets and not any(path.startswith("compute/") for path in broken):
        yield _no_target(desired, experiment)
    for name, source in experiment.data.items():
        pointer = ("spec", "inputs", name, "datastore")
        yield from _datastore(desired, document, pointer, source.datastore, targets)


def _no_target(desired: Desired, experiment: Experiment) -> Problem:
    document = experiment.document
    known = {
        f"{k}: {v}" for t in desired.targets.values() for k, v in (*t.metadata.labels.items(), ("site", t.site))
    }
    asked = [f"{key}: {value}" for key, value in experiment.selector.items()]
    missing = [label for label in asked if label not in known]
    hint = did_you_mean(missing[0], known) if missing else ""
    what = f"no compute target has the labels {{{shown(', '.join(asked), 200)}}}{hint}"
    return problem(codes.NO_TARGET, document.path, document.mark("spec", "compute"), what)


def _datastore(
    desired: Desired, document: Document, where: Pointer, name: str, targets: Collection[ComputeTarget]
) -> Iterator[Problem]:
    """The datastore in the site of each target; in any site where no target is known."""
    sites = desired.configuration.sites
    wanted = sorted({target.site for target in targets if target.site in sites})
    if not wanted:
        every = {store for site in sites.values() for store in site.datastores}
        if name not in every:
            yield unknown(codes.UNKNOWN_DATASTORE, document, where, "datastore", name, every)
        return
    for site in wanted:
        stores = sites[site].datastores
        if name not in stores:
            what = f'the site "{site}" has no datastore "{shown(name)}"{did_you_mean(name, stores)}'
            yield problem(codes.UNKNOWN_DATASTORE, document.path, document.mark(*where), what)
