"""Plans releases: registration, image, tags and record of merged versions; channels; withdrawals."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_of
from edgetrain.core.kinds import Model, ModelVersion
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Change, Difference, Effect, Operation
from edgetrain.core.problem import shown
from edgetrain.core.record import ReleaseRecord, workspace_name
from edgetrain.core.recorded import Recorded

MAX_LISTED = 5
# Azure ML takes fifty tags of a model; channels and other people's need room too.
MOST_INPUT_TAGS = 20
# What a note's object begins with if somebody else made it.
FOREIGN = "foreign/"


def plan_releases(
    desired: Desired, recorded: Recorded, observed: Observation | None, refused: Collection[str]
) -> Iterator[Change]:
    """Changes of versions and channels, by model; a version is whole before a channel points to it."""
    for name, model in sorted(desired.models.items()):
        if f"model/{name}" in refused:
            continue
        numbers = desired.numbers(name)
        for number in numbers:
            yield from _version(desired, model, desired.versions[name, number], recorded, observed)
        yield from _channels(desired, model, recorded, observed)
        for number in sorted(set(model.withdrawn) & set(numbers) - recorded.withdrawn(name)):
            if recorded.release(name, number):
                yield Change(
                    id=f"withdrawal/{name}@{number}",
                    operation=Operation.WITHDRAW,
                    effect=Effect.UPDATE,
                    reason="Withdrawn",
                    differences=(Difference("withdrawn", None, model.withdrawn[number]),),
                    subject={"model": name, "version": number, "why": model.withdrawn[number]},
                )


def _version(
    desired: Desired, model: Model, version: ModelVersion, recorded: Recorded, observed: Observation | None
) -> Iterator[Change]:
    released = recorded.release(model.name, version.number)
    if released is None and version.number in model.withdrawn:
        return
    subject = {"model": model.name, "version": version.number}
    reason = "VersionMerged" if released is None else "Missing"
    steps: list[str] = []
    old = moved_from(desired, recorded, model.name, version.number)
    if released is not None and old is not None:
        yield _moved(desired, recorded, version, old, subject)

    def step(kind: str, operation: Operation) -> Change:
        change = Change(f"{kind}/{version.id}", operation, Effect.CREATE, reason, (), subject, tuple(steps))
        steps.append(change.id)
        return change

    if released is None or (old is None and _unregistered(model.name, version.number, observed)):
        yield step("workspace", Operation.REGISTER)
    if released is None or _image_missing(released, observed):
        yield step("image", Operation.PUSH)
    if released is None:
        yield step("tags", Operation.TAG)
        yield step("release", Operation.RELEASE)
    elif observed is not None:
        if old is None:
            yield from _workspace_drift(version, released, subject, observed)
        yield from _tag_drift(released, observed)


def moved_from(desired: Desired, recorded: Recorded, model: str, number: int) -> str | None:
    """The workspace that a released version is registered in by the records, where the repository has another
    one by now."""
    last = recorded.registration(model, number)
    old = last.workspace if last else None
    configuration = desired.configuration
    new = workspace_name(configuration.workspace["type"], configuration.workspace_name)
    return old if old is not None and old != new else None


def _moved(
    desired: Desired, recorded: Recorded, version: ModelVersion, old: str, subject: dict[str, Any]
) -> Change:
    """Registered anew, with the aliases that the records give it: one change, so that its record says all."""
    configuration = desired.configuration
    new = workspace_name(configuration.workspace["type"], configuration.workspace_name)
    held = [name for name, number in recorded.channels(version.model).items() if number == version.number]
    return Change(
        id=f"workspace/{version.id}",
        operation=Operation.REGISTER,
        effect=Effect.CREATE,
        reason="WorkspaceChanged",
        differences=(
            Difference("workspace", old, new),
            *(Difference(f"alias.{name}", None, version.number) for name in held),
        ),
        subject={**subject, "channels": held, "from": old},
    )


def registration_digest(version: ModelVersion) -> str:
    """The digest that the workspace knows the version by."""
    artifacts = version.spec["artifacts"]
    return str(next(iter(artifacts.values()))["digest"]) if artifacts else ""


def registration_tags(version: ModelVersion, image: str = "") -> dict[str, str]:
    """Our tags on a registered version, beside its number and digest: every digest that it stands on. `image` is
    its released image's, once there is one."""
    spec, environment = version.spec, version.spec["environment"]
    inputs = {name: entry["digest"] for name, entry in sorted(spec["inputs"].items())}
    if len(inputs) > MOST_INPUT_TAGS:
        data = {"edgetrain.inputs": digest_of(inputs)}
    else:
        data = {f"edgetrain.input.{name}": digest for name, digest in inputs.items()}
    found = {
        "edgetrain.run": f"{version.experiment}-{version.run}",
        "edgetrain.identity": spec["run"]["identity"],
        "edgetrain.record": version.record,
        "edgetrain.code": spec["code"],
        "edgetrain.commit": spec["commit"],
        "edgetrain.requirements": environment.get("requirements"),
        "edgetrain.base": environment.get("image"),
        "edgetrain.image": image,
        **data,
    }
    return {name: str(value) for name, value in found.items() if value}


def image_digest(released: ReleaseRecord | None) -> str:
    """The digest of a released version's image; empty before."""
    return str(released.data["image"]["digest"]) if released else ""


def _workspace_drift(
    version: ModelVersion, released: ReleaseRecord, subject: dict[str, Any], observed: Observation
) -> Iterator[Change]:
    """Tags of ours that somebody changed or took away."""
    seen = observed.workspace.get(version.model)
    if seen is None or version.number not in seen.versions:
        return
    wanted = {
        **registration_tags(version, image_digest(released)),
        "edgetrain.version": str(version.number),
        "edgetrain.digest": registration_digest(version),
    }
    tags = seen.versions[version.number].tags
    differences = tuple(
        Difference(f"tags.{name}", tags.get(name), wanted[name])
        for name in sorted(wanted)
        if tags.get(name) != wanted[name]
    )
    if differences:
        yield Change(
            id=f"workspace/{version.id}",
            operation=Operation.REGISTER,
            effect=Effect.UPDATE,
            reason="WorkspaceDrifted",
            differences=differences,
            subject={**subject, "tags": {d.path.removeprefix("tags."): d.desired for d in differences}},
        )


def plan_notes(desired: Desired, recorded: Recorded, observed: Observation | None) -> Iterator[tuple[str, str]]:
    """What the workspace has that nothing is done about: versions and aliases of others, and other numbers."""
    for model in sorted(desired.models) if observed is not None else ():
        seen = observed.workspace.get(model) if observed else None
        if seen is None:
            continue
        if seen.foreign:
            yield f"{FOREIGN}{model}", f"registered by others, left alone: {_listed(seen.foreign)}"
        known = {*desired.models[model].channels, *recorded.channels(model)}
        if aliases := sorted(set(seen.channels) - known):
            yield f"{FOREIGN}{model}", f"aliases that are no channel, left alone: {_listed(aliases)}"
        other = [f"{n} is {v.number}" for n, v in sorted(seen.versions.items()) if v.number != str(n)]
        if other:
            yield f"workspace/{model}", f"versions have other numbers there: {_listed(other)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(shown(name) for name in names[:MAX_LISTED]) + more


def _unregistered(model: str, number: int, observed: Observation | None) -> bool:
    if observed is None:
        return False
    seen = observed.workspace.get(model)
    return seen is None or number not in seen.versions


def _image_missing(released: ReleaseRecord, observed: Observation | None) -> bool:
    image = released.data["image"]
    return observed is not None and (image["registry"], image["repository"], image["digest"]) not in observed.images


def _tag_drift(released: ReleaseRecord, observed: Observation) -> Iterator[Change]:
    """Tags that left the record: gone ones are made again, moved ones need a reviewed plan."""
    image = released.data["image"]
    seen = observed.tags.get((image["registry"], image["repository"]), {})
    for tag in image["tags"]:
        actual = seen.get(tag)
        if actual != image["digest"]:
            yield Change(
                id=f"tag/{released.model}@{released.version}/{tag}",
                operation=Operation.TAG,
                effect=Effect.CREATE if actual is None else Effect.UPDATE,
                reason="Missing" if actual is None else "TagMoved",
                differences=(Difference(f"tags.{tag}", actual, image["digest"]),),
                subject={
                    "model": released.model,
                    "version": released.version,
                    "tag": tag,
                    "digest": image["digest"],
                },
            )


def _channels(desired: Desired, model: Model, recorded: Recorded, observed: Observation | None) -> Iterator[Change]:
    actual = recorded.channels(model.name)
    for channel in sorted(set(model.channels) | set(actual)):
        old, new = actual.get(channel), model.channels.get(channel)
        if new is not None and (new in model.withdrawn or (model.name, new) not in desired.versions):
            continue  # validate names the problem; nothing points to what is not there
        differences = [] if old == new else [Difference(f"channels.{channel}", old, new)]
        differences += _channel_drift(desired, model.name, channel, new, recorded, observed)
        if not differences:
            continue
        new_here = all(difference.actual is None for difference in differences)
        yield Change(
            id=f"channel/{model.name}/{channel}",
            operation=Operation.MOVE,
            effect=Effect.DELETE if new is None else Effect.CREATE if new_here else Effect.UPDATE,
            reason="ChannelMoved" if old != new else "ChannelDrifted",
            differences=tuple(differences),
            subject={"model": model.name, "channel": channel, "from": old, "to": new},
            after=(f"release/{model.name}@{new}",) if new and not recorded.release(model.name, new) else (),
        )


def _channel_drift(
    desired: Desired,
    model: str,
    channel: str,
    wanted: int | None,
    recorded: Recorded,
    observed: Observation | None,
) -> Iterator[Difference]:
    """Alias and tag as seen, where the record says that they were brought here and they are elsewhere now."""
    release = recorded.release(model, wanted) if wanted else None
    if observed is None or release is None or recorded.channels(model).get(channel) != wanted:
        return
    alias = observed.workspace.get(model)
    seen = alias.channels.get(channel) if alias else None
    if seen != wanted and moved_from(desired, recorded, model, release.version) is None:
        yield Difference(f"alias.{channel}", seen, wanted)
    image = release.data["image"]
    tag = observed.tags.get((image["registry"], image["repository"]), {}).get(channel)
    if tag != image["digest"]:
        yield Difference(f"tag.{channel}", tag, image["digest"])
