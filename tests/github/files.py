"""The workflows and actions of this repository as files, read for the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONS = sorted((GITHUB / "actions").glob("*/action.yml"))


def read(file: Path) -> dict[str, Any]:
    """The file's YAML; the key `on`, which YAML takes for a truth value, as a text."""
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in data.items()}


def triggers(workflow: dict[str, Any]) -> dict[str, Any]:
    """The events that wake it, by name."""
    on = workflow["on"]
    return dict.fromkeys(on) if isinstance(on, list) else dict(on)


def jobs() -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """Every job of every workflow."""
    for file in WORKFLOWS:
        for name, job in read(file)["jobs"].items():
            yield file, name, job


def steps() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every step of every workflow and action."""
    for file, _, job in jobs():
        for step in job.get("steps", []):
            yield file, step
    for file in ACTIONS:
        for step in read(file)["runs"]["steps"]:
            yield file, step
