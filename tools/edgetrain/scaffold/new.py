"""Makes new manifests from templates: valid at once, with a training script that works, never overwriting."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import jinja2

from edgetrain.core.errors import UsageError
from edgetrain.core.problem import shown

NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
# Where a repository keeps the schemas that editors check manifests with: one that holds the package, or any other.
SCHEMAS, SITE_SCHEMAS = "tools/edgetrain/schemas", ".vscode/schemas"
_EXPERIMENT_FILES = ("experiment.yaml", "train.py", "requirements.in", "requirements.lock", "README.md")

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("edgetrain.scaffold"),
    # Not the usual braces: manifests hold `${{inputs.x}}` themselves.
    variable_start_string="<<",
    variable_end_string=">>",
    block_start_string="<%",
    block_end_string="%>",
    comment_start_string="<#",
    comment_end_string="#>",
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
    autoescape=jinja2.select_autoescape(default=False),
)
# JSON text is YAML text too, whatever it holds: `on`, `1e3` and `a: b` stay text.
_TEMPLATES.filters["q"] = json.dumps


@dataclass(frozen=True)
class TargetSettings:
    """What a compute target of each type needs; `secret` names the private key in `edgetrain.yaml`."""

    type: str = "local"
    site: str = "main"
    slots: int = 1
    host: str = ""
    username: str = "edgetrain"
    host_keys: Sequence[str] = field(default_factory=tuple)
    secret: str = "site-key"  # noqa: S105  a secret's name
    resource_id: str = ""


def check_name(name: str, what: str = "name") -> str:
    """The name, if manifests may have it. Raises UsageError with a name that would do."""
    if NAME.fullmatch(name):
        return name
    mended = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")[:63].strip("-")
    raise UsageError(
        f'"{shown(name)}" is no {what}: lower-case letters, digits and dashes, beginning with a letter, '
        "at most 63 characters",
        reason="BadName",
        fix=f"use {mended}" if NAME.fullmatch(mended) else "use a name such as cxr-densenet",
    )


def experiment(
    name: str,
    *,
    model: str,
    compute: str,
    datastore: str | None = None,
    path: str | None = None,
    owners: Sequence[str] = (),
    schemas: str = SCHEMAS,
) -> dict[str, str]:
    """The files of a new experiment, by path. Without a datastore its script invents rows."""
    values = {
        "name": check_name(name),
        "model": check_name(model, "model's name"),
        "compute": check_name(compute, "compute target's name"),
        "datastore": check_name(datastore, "datastore's name") if datastore else None,
        "path": path or f"{name}/",
        "owners": list(owners),
        "schemas": schemas,
    }
    return {f"experiments/{name}/{file}": render(f"experiment/{file}", values) for file in _EXPERIMENT_FILES}


def model(name: str, *, owners: Sequence[str] = (), schemas: str = SCHEMAS) -> dict[str, str]:
    """The file of a new model, by path."""
    values = {"name": check_name(name), "owners": list(owners), "schemas": schemas}
    return {f"models/{name}/model.yaml": render("model.yaml", values)}


def compute(
    name: str, settings: TargetSettings, *, owners: Sequence[str] = (), schemas: str = SCHEMAS
) -> dict[str, str]:
    """The file of a new compute target, by path. Raises UsageError if the type needs more to be said."""
    _check_settings(settings)
    values = {"name": check_name(name), "owners": list(owners), "schemas": schemas, **vars(settings)}
    return {f"compute/{name}.yaml": render("compute.yaml", values)}


def _check_settings(settings: TargetSettings) -> None:
    resource: dict[str, object] = {"--resource-id": settings.resource_id}
    ssh: dict[str, object] = {"--host": settings.host, "--host-key": settings.host_keys}
    needed: dict[str, dict[str, object]] = {
        "ssh": ssh,
        "azureml-vm": {**resource, **ssh},
        "azureml-kubernetes": resource,
    }
    missing = [option for option, given in needed.get(settings.type, {}).items() if not given]
    if missing:
        hint = "; ssh-keyscan prints a host's keys" if "--host-key" in missing else ""
        raise UsageError(
            f"a target of type {settings.type} needs {' and '.join(missing)}",
            reason="SettingMissing",
            fix=f"give {' and '.join(missing)}{hint}",
        )


def render(template: str, values: Mapping[str, object]) -> str:
    """The text of a template by its name below `templates/`."""
    return _TEMPLATES.get_template(f"{template}.j2").render(**values)


def write(root: Path, files: Mapping[str, str]) -> None:
    """Write new files, all or none. UsageError for a file that is there, a linked folder, one not writable."""
    there = [path for path in files if (root / path).exists() or (root / path).is_symlink()]
    if there:
        raise UsageError(
            f"already there: {', '.join(there)}",
            reason="AlreadyExists",
            fix="choose another name; nothing was written",
        )
    for path in files:
        for folder in PurePosixPath(path).parents:
            if (root / folder).is_symlink():
                raise UsageError(
                    f"{folder} is a symbolic link", reason="LinkInTheWay", fix="replace the link by a folder"
                )
    ours: list[Path] = []
    try:
        for path, text in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8", newline="\n") as opened:
                ours.append(file)
                opened.write(text)
    except BaseException as error:
        for file in ours:
            file.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise UsageError(
            f"{error.filename} can't be written: {error.strerror}",
            reason="NotWritable",
            fix="give this user the right to write in the checkout",
        ) from None
