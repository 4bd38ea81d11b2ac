"""A quick look into a manifest of the work tree, for verbs that need one value and no validation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetrain.core.errors import InvalidFiles, RepositoryError
from edgetrain.core.problem import Severity, shown


def look_into(root: Path, path: str) -> dict[str, Any] | None:
    """The manifest's data, None if there is no such file. InvalidFiles if it can't be read as YAML."""
    from edgetrain.repo.reader import MAX_BYTES, read

    file = root / path
    if file.is_symlink() or not file.is_file():
        return None
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise RepositoryError(
            f"{shown(path)} can't be read: {error.strerror}", fix="give this user the right to read it"
        ) from None
    document, problems = read(data, path)
    if document is None or any(found.severity is Severity.PROBLEM for found in problems):
        raise InvalidFiles(problems)
    return document.data


def spec(manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    """The manifest's `spec`; empty if it has none."""
    found = (manifest or {}).get("spec")
    return found if isinstance(found, dict) else {}
