"""Finds what a person names on the command line: main's state, versions by number or channel, runs by prefix."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from edgetrain.core.desired import Desired
from edgetrain.core.errors import UsageError
from edgetrain.core.kinds import ModelVersion
from edgetrain.core.problem import did_you_mean, shown
from edgetrain.core.record import RunRecord, is_record_path
from edgetrain.core.recorded import Recorded
from edgetrain.reconcile.main_branch import CONFIGURATION, MainBranch, configured_branch
from edgetrain.reconcile.state import State, read_commit, read_with
from edgetrain.repo.git import REMOTE, Git
from edgetrain.repo.part import PartOfTree

PROPOSALS = "edgetrain/proposal/"
_MODEL = re.compile(r"models/([^/]+)/model\.yaml")
_VERSION = re.compile(r"(?P<model>[^@]+)@(?P<which>[^@]+)")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def read_main(root: Path, *, refresh: bool = False) -> State:
    """Main as it was last fetched, or (`refresh`) as the remote has it now. Raises RepositoryError."""
    git = Git.find(root)
    branch = configured_branch(git)
    if refresh:
        from edgetrain.reconcile.remote import connect_as_known  # here: most ask no remote

        connect_as_known(git, branch)
    return read_commit(git, git.tip(branch, refresh=refresh))


def read_models(main: MainBranch, name: str | None) -> State:
    """Of main's files only the configuration and those of a model (None, or unknown: of all)."""
    known = name is not None and main.tree.exists(f"models/{name}/model.yaml")
    return _part(main, {CONFIGURATION, f"models/{name}" if known else "models"})


def read_events(main: MainBranch) -> State:
    """Of main's files only the configuration, the models' manifests and all records."""
    records = {entry.path for entry in main.tree.files() if is_record_path(entry.path)}
    models = {entry.path for entry in main.tree.files("models") if _MODEL.fullmatch(entry.path)}
    return _part(main, {CONFIGURATION, *models, *records})


def _part(main: MainBranch, paths: set[str]) -> State:
    return read_with(main.additions, main.git, PartOfTree(main.tree, paths), main.commit, main.readings)


def model_names(desired: Desired, broken: Iterable[str]) -> set[str]:
    """Every model that has a manifest, be it one of the `broken` files of the reading, or a version."""
    found = {manifest[1] for path in broken if (manifest := _MODEL.fullmatch(path))}
    return {*desired.models, *(model for model, _ in desired.versions), *found}


def model_named(desired: Desired, broken: Collection[str], name: str) -> str:
    """The model's name. Raises UsageError if there is none, or its manifest can't be read."""
    if name in desired.models:
        return name
    path = f"models/{name}/model.yaml"
    if path in broken:
        raise UsageError(f"{path} has problems", fix="edgetrain validate names them; mend it on main first")
    if name in model_names(desired, broken):
        raise UsageError(f"{path} is gone, though the model has versions", fix="git revert what removed it")
    raise no_model(desired, broken, name)


def unread_files(state: State) -> list[str]:
    """What can't be told, for a reading that files with problems were left out of."""
    broken = [path for path in sorted(state.loaded.broken) if state.tree.exists(path)]
    more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
    names = ", ".join(shown(path, 100) for path in broken[:3])
    return [f"what stands in files with problems ({names}{more}): edgetrain validate"] if broken else []


def no_model(desired: Desired, broken: Iterable[str], name: str) -> UsageError:
    """The error of a model that nobody knows."""
    hint = did_you_mean(name, model_names(desired, broken))
    return UsageError(f"no model {shown(name)!r}{hint}", fix="edgetrain models lists them")


def version_named(desired: Desired, broken: Collection[str], text: str) -> ModelVersion:
    """The version of `MODEL@NUMBER` or `MODEL@CHANNEL`. Raises UsageError."""
    found = _VERSION.fullmatch(text)
    if not found:
        raise UsageError(
            f"{shown(text)!r} names no version", fix="write MODEL@NUMBER or MODEL@CHANNEL, such as digits@2"
        )
    model = desired.models[model_named(desired, broken, found["model"])]
    which = found["which"]
    if _NUMBER.fullmatch(which):
        number = int(which)
    elif which in model.channels:
        number = model.channels[which]
    else:
        hint = did_you_mean(which, model.channels)
        known = ", ".join(sorted(model.channels)) or "it has none"
        raise UsageError(f"{model.name} has no channel {shown(which)!r}{hint}", fix=f"channels: {known}")
    version = desired.versions.get((model.name, number))
    if version is None and (path := f"models/{model.name}/versions/{number}.yaml") in broken:
        raise UsageError(f"{path} has problems", fix="edgetrain validate names them")
    if version is None:
        latest = desired.latest_version(model.name)
        known = f"its versions go up to {latest}" if latest else "no version of it is merged yet"
        raise UsageError(f"{model.name}@{number} is not on main", fix=f"{known}; edgetrain log {model.name}")
    return version


def one_of(names: Iterable[str], text: str) -> str | None:
    """The one name that is `text` or starts with it; None if none does. Raises UsageError for several."""
    known = sorted(set(names))
    found = [text] if text in known else [name for name in known if text and name.startswith(text)]
    if len(found) > 1:
        listed = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        raise UsageError(f"{shown(text)!r} could be {len(found)} runs", fix=f"give more of the name: {listed}")
    return found[0] if found else None


def no_run(text: str, names: Iterable[str]) -> UsageError:
    """The error of a run that nobody knows."""
    return UsageError(f"no run {shown(text)!r}{did_you_mean(text, names)}", fix="edgetrain runs lists them")


def run_named(recorded: Recorded, text: str) -> RunRecord:
    """The recorded run of this id, or of the id that starts so. Raises UsageError."""
    by_id = {run.run_id: run for run in recorded.runs}
    name = one_of(by_id, text)
    if name is None:
        raise no_run(text, by_id)
    return by_id[name]


def open_branches(git: Git, desired: Desired) -> dict[str, tuple[str, int]]:
    """Proposals open as last fetched: branch to model and number. Asks no remote.

    A branch whose number is merged already is a leftover that nobody has deleted or pruned yet.
    """
    place = f"refs/remotes/{REMOTE}/" if git.has_remote() else "refs/heads/"
    names = git.text("for-each-ref", "--format=%(refname)", place + PROPOSALS).splitlines()
    found = {}
    for branch in (name.removeprefix(place) for name in names):
        model, _, number = branch.removeprefix(PROPOSALS).rpartition("-")
        if model in desired.models and _NUMBER.fullmatch(number) and int(number) > desired.latest_version(model):
            found[branch] = (model, int(number))
    return found
