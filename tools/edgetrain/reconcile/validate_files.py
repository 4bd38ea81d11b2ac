"""Validates some files of a work tree, fast enough to be done at every commit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgetrain.core.checks.references import check_references
from edgetrain.core.errors import RepositoryError
from edgetrain.core.kinds import kind_at
from edgetrain.core.problem import Problem
from edgetrain.core.record import is_record_path
from edgetrain.repo.git import Git
from edgetrain.repo.load import read_repository
from edgetrain.repo.part import PartOfTree
from edgetrain.repo.work_tree import WorkTree

# Every other file may name what stands there, and there are few of them.
ALWAYS = ("edgetrain.yaml", "compute")
_FOLDERS = ("experiments", "models")


def validate_files(root: Path, paths: Iterable[str]) -> list[Problem]:
    """Problems of the files, and of the experiments and models in whose folders they lie; sorted.

    Form, place, and what they name; not the history, nor what other files say of these, nor the egress scan.
    Paths are from the repository's root; one that is gone, or is no business of edgetrain's, has no problem.
    """
    wanted = {_unit(path) for path in paths}
    try:
        tree = WorkTree(Git.find(root))
    except RepositoryError:
        tree = WorkTree(root)
    part = PartOfTree(tree, {*wanted, *ALWAYS})
    loaded = read_repository(part)
    left = {e.path for e in tree.files() if not part.holds(e.path) and (kind_at(e.path) or is_record_path(e.path))}
    problems = set(loaded.problems)
    if loaded.desired is not None:
        # What was left out is there: nobody may call it unknown.
        problems |= set(check_references(loaded.desired, loaded.recorded, loaded.broken | left))
    asked = PartOfTree(tree, wanted)
    return sorted(found for found in problems if asked.holds(found.path))


def _unit(path: str) -> str:
    """The folder of the experiment or model that a path lies in; else the path itself."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] in _FOLDERS and len(parts) > 2 else path
