"""`edgetrain lock`: pin an experiment's packages by version and hash."""

from __future__ import annotations

import click

from edgetrain.cli.manifests import look_into, spec
from edgetrain.cli.names import experiments
from edgetrain.cli.session import Session, format_option, pass_session
from edgetrain.core.errors import UsageError
from edgetrain.core.problem import did_you_mean

DEFAULT_LOCK = "requirements.lock"
DEFAULT_PYTHON = "3.11"


@click.command()
@click.argument("experiment", shell_complete=experiments)
@click.option("--upgrade", is_flag=True, help="Take the newest versions, instead of keeping those pinned.")
@format_option("text", "json")
@pass_session
def lock(session: Session, experiment: str, upgrade: bool) -> None:
    """Pin an experiment's packages, with hashes.

    Reads requirements.in in the experiment's folder and writes requirements.lock (or what the manifest
    names): every package that training needs, at one version, for all platforms, wheels only.
    """
    from edgetrain.render.jsons import as_json
    from edgetrain.render.words import plural
    from edgetrain.scaffold.lock import lock as pin
    from edgetrain.scaffold.new import check_name

    folder = session.root / "experiments" / check_name(experiment)
    path = f"experiments/{experiment}/experiment.yaml"
    manifest = look_into(session.root, path)
    if manifest is None:
        known = sorted(file.parent.name for file in session.root.glob("experiments/*/experiment.yaml"))
        raise UsageError(
            f"{path} is not there{did_you_mean(experiment, known)}",
            reason="UnknownExperiment",
            fix=f"use one of {', '.join(known)}" if known else f"edgetrain new experiment {experiment}",
        )
    environment = spec(manifest).get("environment")
    environment = environment if isinstance(environment, dict) else {}
    name = str(environment.get("requirements", DEFAULT_LOCK))
    session.say(f"looking for packages that fit experiments/{experiment}")
    locked = pin(folder, name, str(environment.get("python", DEFAULT_PYTHON)), upgrade=upgrade)
    where = locked.path.relative_to(session.root).as_posix()
    if session.format == "json":
        parts = {key: list(getattr(locked, key)) for key in ("added", "removed", "changed")}
        session.show(as_json({"path": where, "packages": locked.packages, **parts}))
        return
    moves = [
        f"{len(found)} {word}"
        for word, found in (("added", locked.added), ("removed", locked.removed), ("changed", locked.changed))
        if found
    ]
    session.show(f"{where}: {plural(locked.packages, 'package')}, {', '.join(moves) or 'none changed'}")
    if "requirements" not in environment and locked.packages:
        session.say(f"note: the manifest does not name it yet: environment: {{requirements: {name}}}")
