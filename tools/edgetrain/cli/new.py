"""`edgetrain new`: manifests that are valid at once, and a training script that works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from edgetrain.cli.manifests import look_into, spec
from edgetrain.cli.names import models, targets
from edgetrain.cli.session import CONFIGURATION, Session, format_option, pass_session
from edgetrain.core.errors import UsageError
from edgetrain.core.problem import did_you_mean

F = TypeVar("F", bound=Callable[..., Any])
TYPES = ("local", "ssh", "azureml-vm", "azureml-kubernetes")
FIRST_TARGET = "local"


@click.group()
def new() -> None:
    """Write a new manifest, ready to edit. Nothing that exists is ever overwritten."""


def _owner_option(command: F) -> F:
    return click.option("--owner", "owners", metavar="@ORG/TEAM", multiple=True, help="Who answers for it.")(
        command
    )


@new.command()
@click.argument("name")
@click.option(
    "--model",
    metavar="NAME",
    shell_complete=models,
    help="The model it makes versions of; else one of the same name.",
)
@click.option(
    "--compute", metavar="NAME", shell_complete=targets, help="The compute target; else the first local one."
)
@click.option("--datastore", metavar="NAME", help="Train on data of this datastore, not on invented rows.")
@click.option("--path", metavar="FOLDER", help="The data's folder in the datastore; else NAME/.")
@_owner_option
@format_option("text", "json")
@pass_session
def experiment(
    session: Session,
    name: str,
    model: str | None,
    compute: str | None,
    datastore: str | None,
    path: str | None,
    owners: tuple[str, ...],
) -> None:
    """Write an experiment with a small training script that works, and its model if there is none."""
    from edgetrain.scaffold import new as scaffold

    targets = sorted(file.stem for file in session.root.glob("compute/*.yaml"))
    if compute is not None and targets and compute not in targets:
        raise UsageError(
            f'no compute target "{compute}"{did_you_mean(compute, targets)}',
            reason="UnknownTarget",
            fix=f"use one of {', '.join(targets)}, or make it: edgetrain new compute {compute}",
        )
    _check_datastore(session, datastore, path)
    chosen = compute or _target(session, targets)
    made_for = model or name
    schemas = _schemas(session)
    files = scaffold.experiment(
        name, model=made_for, compute=chosen, datastore=datastore, path=path, owners=owners, schemas=schemas
    )
    if not (session.root / "models" / made_for / "model.yaml").exists():
        files |= scaffold.model(made_for, owners=owners, schemas=schemas)
    if not targets:
        settings = scaffold.TargetSettings(site=_site(session, None))
        files |= scaffold.compute(chosen, settings, owners=owners, schemas=schemas)
    data = " --data data=FOLDER" if datastore else ""
    _write(session, files, ["edgetrain validate", f"edgetrain run {name}{data}"])


@new.command()
@click.argument("name")
@_owner_option
@format_option("text", "json")
@pass_session
def model(session: Session, name: str, owners: tuple[str, ...]) -> None:
    """Write a model: what it is for, the gates to it, its channels."""
    from edgetrain.scaffold import new as scaffold

    steps = [f"edit models/{name}/model.yaml: the card and the gates", "edgetrain validate"]
    _write(session, scaffold.model(name, owners=owners, schemas=_schemas(session)), steps)


@new.command()
@click.argument("name")
@click.option(
    "--type", "type_", type=click.Choice(TYPES), default="local", show_default=True, help="How runs are made."
)
@click.option("--site", metavar="NAME", help="The site whose runner serves it; else the first there is.")
@click.option("--slots", type=click.IntRange(1, 1000), default=1, show_default=True, help="Runs at the same time.")
@click.option("--host", metavar="HOST", default="", help="ssh, azureml-vm: name or address.")
@click.option("--host-key", "host_keys", metavar="KEY", multiple=True, help="ssh, azureml-vm: a pinned host key.")
@click.option("--username", default="edgetrain", show_default=True, help="ssh, azureml-vm: the account.")
@click.option(
    "--secret", metavar="NAME", default="site-key", show_default=True, help="The private key, by its secret's name."
)
@click.option("--resource-id", metavar="ID", default="", help="azureml-*: the Azure resource id.")
@_owner_option
@format_option("text", "json")
@pass_session
def compute(
    session: Session, /, name: str, type_: str, site: str | None, owners: tuple[str, ...], **given: Any
) -> None:
    """Write a compute target."""
    from edgetrain.scaffold import new as scaffold

    settings = scaffold.TargetSettings(type=type_, site=_site(session, site), **given)
    files = scaffold.compute(name, settings, owners=owners, schemas=_schemas(session))
    _write(session, files, ["edgetrain validate"])


def _schemas(session: Session) -> str:
    """The schemas' folder that a manifest's first line names: the site's own copies where it has them."""
    from edgetrain.scaffold import new as scaffold

    return scaffold.SITE_SCHEMAS if (session.root / scaffold.SITE_SCHEMAS).is_dir() else scaffold.SCHEMAS


def _target(session: Session, names: list[str]) -> str:
    """The target that is easiest to begin with: the first local one, or the first; one to be made if none is."""
    for name in names:
        if spec(look_into(session.root, f"compute/{name}.yaml")).get("type") == "local":
            return name
    return names[0] if names else FIRST_TARGET


def _sites(session: Session) -> Mapping[str, Any]:
    sites = spec(look_into(session.root, CONFIGURATION)).get("sites")
    return sites if isinstance(sites, dict) else {}


def _site(session: Session, asked: str | None) -> str:
    """The site asked for, which must be declared, or the first one."""
    sites = _sites(session)
    if not sites:
        raise UsageError(
            f"{CONFIGURATION} declares no site",
            reason="NoSite",
            fix=f"declare one in {CONFIGURATION}: spec.sites.<name>.state",
        )
    if asked is not None and asked not in sites:
        raise UsageError(
            f'no site "{asked}"{did_you_mean(asked, sites)}',
            reason="UnknownSite",
            fix=f"use one of {', '.join(sites)}",
        )
    return asked or next(iter(sites))


def _check_datastore(session: Session, datastore: str | None, path: str | None) -> None:
    if datastore is None:
        if path is not None:
            raise UsageError("--path is a folder of a datastore", fix="say which: --datastore NAME")
        return
    known = {
        name for site in _sites(session).values() if isinstance(site, dict) for name in site.get("datastores", {})
    }
    if datastore not in known:
        raise UsageError(
            f'no datastore "{datastore}"{did_you_mean(datastore, known)}',
            reason="UnknownDatastore",
            fix=f"use one of {', '.join(sorted(known))}" if known else f"declare it in {CONFIGURATION}",
        )


def _write(session: Session, files: Mapping[str, str], steps: list[str]) -> None:
    """Write the files, say which, and what to do next."""
    from edgetrain.render.jsons import as_json
    from edgetrain.scaffold.new import write

    write(session.root, files)
    if session.format == "json":
        session.show(as_json({"written": sorted(files), "next": steps}))
        return
    session.show("".join(f"wrote {path}\n" for path in sorted(files)))
    session.say("next:\n" + "".join(f"  {step}\n" for step in steps))
