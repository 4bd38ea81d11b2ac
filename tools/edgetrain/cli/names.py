"""Names for the shell's completion, read from the folders of the checkout: nothing is parsed, nobody is asked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from edgetrain.cli.session import Session
from edgetrain.core.errors import EdgetrainError

MOST = 500
_RUN = re.compile(r"experiments/([^/]+)/runs/([0-9a-f]{12}-[0-9]+)\.json")
_VERSION = re.compile(r"models/([^/]+)/versions/([0-9]+)\.yaml")


def experiments(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Experiments that have a manifest."""
    return _matching(incomplete, (file.parent.name for file in _files(context, "experiments/*/experiment.yaml")))


def models(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Models that have a manifest."""
    return _matching(incomplete, (file.parent.name for file in _files(context, "models/*/model.yaml")))


def targets(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Compute targets that have a manifest."""
    return _matching(incomplete, (file.stem for file in _files(context, "compute/*.yaml")))


def runs(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Recorded runs, as `edgetrain runs` names them."""
    return _matching(incomplete, _joined(context, "experiments/*/runs/*.json", _RUN, "-"))


def versions(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Merged versions, as `model@n`."""
    return _matching(incomplete, _joined(context, "models/*/versions/*.yaml", _VERSION, "@"))


def versions_or_runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Both, for verbs that take either."""
    return versions(context, parameter, incomplete) + runs(context, parameter, incomplete)


def models_or_versions(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Both, for verbs that take either."""
    return models(context, parameter, incomplete) + versions(context, parameter, incomplete)


def runs_or_experiments(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """What `propose` takes: experiments with --data, else a run."""
    return (experiments if context.params.get("data") else runs)(context, parameter, incomplete)


def kinds(_context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Kinds of manifests, and outputs of verbs."""
    from edgetrain.core.kinds import KINDS
    from edgetrain.repo.output import outputs

    return _matching(incomplete, [*(kind.lower for kind in KINDS), *outputs()])


def _files(context: click.Context, pattern: str) -> Iterator[Path]:
    root = _root(context)
    if root is not None:
        yield from root.glob(pattern)


def _joined(context: click.Context, pattern: str, form: re.Pattern[str], joint: str) -> Iterator[str]:
    """The two parts of each path of this form."""
    root = _root(context)
    for file in root.glob(pattern) if root else ():
        found = form.fullmatch(file.relative_to(root or file).as_posix())
        if found:
            yield f"{found[1]}{joint}{found[2]}"


def _root(context: click.Context) -> Path | None:
    """The repository's root; None outside of one: a completion must not fail."""
    directory = context.find_root().params.get("directory")
    try:
        return Session(directory=directory if isinstance(directory, Path) else None).root
    except (EdgetrainError, OSError):
        return None


def _matching(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))[:MOST]
