"""Plans releases: registration, image, tags and record of merged versions; channels; withdrawals."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from edgetrain.core.desired import Desired
from edgetrain.core.kinds import Model, ModelVersion
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Change, Difference, Effect, Operation
from edgetrain.core.record import Recorded, ReleaseRecord


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

    def step(kind: str, operation: Operation) -> Change:
        change = Change(f"{kind}/{version.id}", operation, Effect.CREATE, reason, (), subject, tuple(steps))
        steps.append(change.id)
        return change

    if released is None or _unregistered(model.name, version.number, observed):
        yield step("workspace", Operation.REGISTER)
    if released is None or _image_missing(released, observed):
        yield step("image", Operation.PUSH)
    if released is None:
        yield step("tags", Operation.TAG)
        yield step("release", Operation.RELEASE)
    elif observed is not None:
        yield from _tag_drift(released, observed)


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
        differences += _channel_drift(model.name, channel, new, recorded, observed)
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
    model: str, channel: str, wanted: int | None, recorded: Recorded, observed: Observation | None
) -> Iterator[Difference]:
    """Alias and tag as seen, where the record says that they were brought here and they are elsewhere now."""
    release = recorded.release(model, wanted) if wanted else None
    if observed is None or release is None or recorded.channels(model).get(channel) != wanted:
        return
    alias = observed.workspace.get(model)
    seen = alias.channels.get(channel) if alias else None
    if seen != wanted:
        yield Difference(f"alias.{channel}", seen, wanted)
    image = release.data["image"]
    tag = observed.tags.get((image["registry"], image["repository"]), {}).get(channel)
    if tag != image["digest"]:
        yield Difference(f"tag.{channel}", tag, image["digest"])
