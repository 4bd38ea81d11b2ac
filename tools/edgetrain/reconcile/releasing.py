"""Makes merged versions real: registration, image, tags, channels, withdrawals, and their records."""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath
from typing import Any

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import Rejected
from edgetrain.core.kinds import Model, ModelVersion
from edgetrain.core.plan import Change, Operation
from edgetrain.core.planner.proposals import proposal_branch
from edgetrain.core.planner.releases import image_digest, registration_digest, registration_tags
from edgetrain.core.ports import Image, Registry
from edgetrain.core.record import API_VERSION, ReleaseRecord
from edgetrain.image.assembly import About, assemble, scoring_files
from edgetrain.image.layer import LayerFile
from edgetrain.reconcile.context import Context, manifest_digest, provenance_of
from edgetrain.reconcile.judge import CONFIGURATION
from edgetrain.reconcile.report import Result, Status
from edgetrain.repo.history import last_change

Built = dict[tuple[str, int], str]


def release(context: Context, change: Change, built: Built) -> Result:
    """Do one change of a version or channel. `built` carries image digests from push to tag to record."""
    model = context.state.desired.models[change.subject["model"]]
    operation = change.operation
    message = ""
    with context.site.artifacts.lock(f"release/{model.name}"):
        if operation is Operation.REGISTER:
            message = registered(context, model, change)
        elif operation is Operation.PUSH:
            push(context, model, _version(context, change), built)
        elif operation is Operation.TAG:
            tag(context, model, change, built)
        elif operation is Operation.RELEASE:
            record_release(context, model, _version(context, change), built)
        elif operation is Operation.MOVE:
            move(context, model, change)
        else:
            withdraw(context, model, change)
    return Result(change.id, operation.value, Status.APPLIED, change.reason, message)


def _version(context: Context, change: Change) -> ModelVersion:
    return context.state.desired.versions[change.subject["model"], change.subject["version"]]


def register(context: Context, version: ModelVersion, image: str = "") -> str:
    """Ensure the version is in the workspace, with the digest of its image once that is known; its own number
    there."""
    image = image or image_digest(context.state.recorded.release(version.model, version.number))
    run = context.state.recorded.run(version.record)
    tracked = run.data.get("workspace", {}) if run else {}
    # A run that was tracked in a workspace of another type is no run of this one.
    here = tracked.get("type") == context.site.configuration.workspace["type"]
    context.step("register")
    return context.site.workspace.register(
        version.model,
        version.number,
        tracked.get("run", "") if here else "",
        registration_digest(version),
        registration_tags(version, image),
    )


def registered(context: Context, model: Model, change: Change) -> str:
    """Ensure a version is registered as its manifest says; how its number there differs, in words."""
    version, workspace = _version(context, change), context.site.workspace
    if change.reason == "WorkspaceDrifted":
        context.step("mark")
        workspace.mark(model.name, version.number, change.subject["tags"])
    number = register(context, version)
    if change.reason == "WorkspaceChanged":
        for channel in change.subject["channels"]:
            context.step("alias")
            workspace.alias(model.name, channel, version.number)
        if why := model.withdrawn.get(version.number):
            context.step("mark")
            workspace.mark(model.name, version.number, {"edgetrain.withdrawn": why})
        merged = last_change(context.state.git, context.state.commit, CONFIGURATION)
        data = _release_data(context, model.name, version, "registered") | {
            "registered": _registration(context, number),
            "from": change.subject["from"],
            "provenance": provenance_of(context, merged.commit) if merged else {},
        }
        _commit(context, data, f"Record registration {version.id}: {context.site.configuration.workspace['type']}")
    return "" if number == str(version.number) else f"registered as {number} there"


def _registration(context: Context, number: str) -> dict[str, str]:
    """Where a version is registered, as records hold it."""
    configuration = context.site.configuration
    named = {"workspace": configuration.workspace_name} if configuration.workspace_name else {}
    return {"type": configuration.workspace["type"], "version": number, **named}


def image_of(context: Context, model: Model, version: ModelVersion) -> Image:
    """Assemble the version's image. Revision and time come from the commit that put the version on main."""
    commit = _merged(context, version)
    info = context.state.git.commit_info(commit)
    spec = version.spec
    image = model.image
    base = None if image.base == "scratch" else context.site.base(image.base, image.registry)
    about = About(
        title=model.name,
        version=str(version.number),
        revision=commit,
        created=info.committer.time,
        description=str(model.card.get("intendedPurpose", "")),
        labels={
            "edgetrain.model": model.name,
            "edgetrain.version": str(version.number),
            "edgetrain.identity": spec["run"]["identity"],
            "edgetrain.record": version.record,
        },
    )
    facts = {
        "identity": spec["run"]["identity"],
        "record": version.record,
        "commit": spec["commit"],
        "code": spec["code"],
        "inputs": {name: entry["digest"] for name, entry in spec["inputs"].items()},
        "metrics": spec["metrics"],
        "metricsSource": spec["metricsSource"],
        "signature": spec.get("signature", {}),
        "card": dict(model.card),
    }
    return assemble(
        about=about,
        scoring=scoring_files(model.name, version.number, facts),
        model=_model_files(context, spec["artifacts"]),
        base=base,
        base_name="" if base is None else model.image.base.partition("@")[0],
    )


def _model_files(context: Context, artifacts: dict[str, Any]) -> list[LayerFile]:
    """A single output lies flat in `/model`; several lie in a folder of their name each."""
    files = []
    for name, output in sorted(artifacts.items()):
        root = PurePosixPath("model") if len(artifacts) == 1 else PurePosixPath("model") / name
        for entry in output["files"]:
            inside = PurePosixPath(entry["path"]).relative_to(PurePosixPath(output["path"]).parent)
            if context.site.artifacts.size(entry["digest"]) != entry["size"]:
                raise Rejected(
                    f"artifact {entry['digest']} is missing from the site's store, or damaged",
                    reason="ArtifactMissing",
                    fix="restore the artifact store, or train again: edgetrain retry RUN --reason ...",
                )
            opened = partial(context.site.artifacts.open, entry["digest"])
            files.append(LayerFile(str(root / inside), entry["size"], opened, digest=entry["digest"]))
    return files


def push(context: Context, model: Model, version: ModelVersion, built: Built) -> None:
    """Ensure the image is in the registry; one that was released is made again where its record says."""
    released = context.state.recorded.release(model.name, version.number)
    recorded = released.data["image"]["digest"] if released else None
    image = image_of(context, model, version)
    if recorded not in (None, digest_bytes(image.manifest)):
        raise Rejected(
            f"the image of {version.id} can't be made again as released: its manifest, or edgetrain, changed",
            reason="ImageDiffers",
            fix="restore the registry from its backup, or merge a new version",
        )
    registry, repository = _place(context, model, version.number)
    context.step("push")
    digest = registry.push(repository, image)
    built[model.name, version.number] = digest
    context.tell("Pushed", version.id, f"{registry.where(repository)}@{digest}")


def _place(context: Context, model: Model, number: int) -> tuple[Registry, str]:
    """Registry and repository of a version's image: as released, else as the model's manifest says."""
    released = context.state.recorded.release(model.name, number)
    if released is not None:
        image = released.data["image"]
        return context.site.registry(image["registry"]), image["repository"]
    name = context.site.configuration.registry(model.image.registry)
    return context.site.registry(name), model.image.repository


def version_tags(context: Context, version: ModelVersion) -> list[str]:
    """A version's own tags: its number, and the commit that put it on main."""
    return [str(version.number), f"git-{_merged(context, version)[:12]}"]


def tag(context: Context, model: Model, change: Change, built: Built) -> None:
    """Ensure the version's tags, or the one tag that drifted."""
    subject = change.subject
    registry, repository = _place(context, model, subject["version"])
    if "tag" in subject:
        context.step("tag")
        registry.tag(repository, subject["tag"], subject["digest"])
        return
    version = _version(context, change)
    for name in version_tags(context, version):
        context.step("tag")
        registry.tag(repository, name, built[model.name, version.number])


def record_release(context: Context, model: Model, version: ModelVersion, built: Built) -> None:
    """Write that the version is released: the last step, so what it says is true."""
    number = register(context, version, built[model.name, version.number])
    registry = context.site.configuration.registry(model.image.registry)
    data = _release_data(context, model.name, version, "released") | {
        "registered": _registration(context, number),
        "image": {
            "registry": registry,
            "repository": model.image.repository,
            "digest": built[model.name, version.number],
            "base": model.image.base,
            "tags": version_tags(context, version),
        },
        "provenance": provenance_of(context, _merged(context, version)),
    }
    _commit(context, data, f"Record release {version.id}")
    context.step("withdraw-branch")
    context.ledger.withdraw(proposal_branch(model.name, version.number))


def move(context: Context, model: Model, change: Change) -> None:
    """Point a channel's alias and tag to a version, and write the move down."""
    subject = change.subject
    channel, old, new = subject["channel"], subject["from"], subject["to"]
    recorded = context.state.recorded
    context.step("alias")
    context.site.workspace.alias(model.name, channel, new)
    released = recorded.release(model.name, new if new is not None else old)
    if released is None:
        raise Rejected(
            f"{model.name}@{new} is not released",
            reason="NotReleased",
            fix="see why its release failed: edgetrain plan --refresh, then apply again",
        )
    image = released.data["image"]
    context.step("channel-tag")
    digest = image["digest"] if new is not None else None
    context.site.registry(image["registry"]).tag(image["repository"], channel, digest)
    if recorded.channels(model.name).get(channel) == new:
        return
    version = context.state.desired.versions[model.name, released.version]
    head = recorded.channel_head(model.name, channel)
    merged = last_change(context.state.git, context.state.commit, model.path)
    data = _release_data(context, model.name, version, "channel") | {
        "channel": channel,
        "from": old,
        "to": new,
        "follows": head.digest if head else None,
        "provenance": provenance_of(context, merged.commit) if merged else {},
    }
    target = f"{model.name}@{new}" if new is not None else "nothing"
    _commit(context, data, f"Record channel {model.name}/{channel}: {target}")


def withdraw(context: Context, model: Model, change: Change) -> None:
    """Mark a withdrawn version in the workspace, and write it down."""
    version = _version(context, change)
    context.step("mark")
    context.site.workspace.mark(model.name, version.number, {"edgetrain.withdrawn": change.subject["why"]})
    merged = last_change(context.state.git, context.state.commit, model.path)
    data = _release_data(context, model.name, version, "withdrawn") | {
        "why": change.subject["why"],
        "provenance": provenance_of(context, merged.commit) if merged else {},
    }
    _commit(context, data, f"Record withdrawal {version.id}")


def _merged(context: Context, version: ModelVersion) -> str:
    return context.state.added[version.document.path].commit


def _release_data(context: Context, model: str, version: ModelVersion, event: str) -> dict[str, Any]:
    released: ReleaseRecord | None = context.state.recorded.release(model, version.number)
    return {
        "apiVersion": API_VERSION,
        "kind": "ReleaseRecord",
        "event": event,
        "model": model,
        "version": version.number,
        "number": context.state.recorded.next_release_number(model, version.number),
        "manifest": manifest_digest(context, version.document.path),
        "run": version.record,
        "release": released.digest if released else None,
    }


def _commit(context: Context, data: dict[str, Any], subject: str) -> None:
    path = f"models/{data['model']}/versions/{data['version']}.release-{data['number']}.json"
    run = context.state.recorded.run(data["run"])
    of = [("Run", run.run_id)] if run is not None else []
    context.commit_record(path, data, subject, [*of, ("Model", f"{data['model']}@{data['version']}")])
