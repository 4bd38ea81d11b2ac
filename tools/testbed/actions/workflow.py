"""Workflow files: what wakes them, the order of their jobs, and one job taken out to be run alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from testbed.github.bare import Bare, GitFailed

FOLDER = ".github/workflows"
PULL_TYPES = ("opened", "reopened", "synchronize")
RUN_TYPES = ("completed", "in_progress", "requested")
SITE_LABEL = "self-hosted"


@dataclass(frozen=True)
class Ended:
    """How a job ended: `success`, `failure`, `cancelled` or `skipped`, and its outputs."""

    result: str
    outputs: Mapping[str, str] = field(default_factory=dict)


class Workflow:
    """One file at one commit."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text
        self.data: dict[str, Any] = yaml.safe_load(text)
        # YAML takes the key `on` for a truth value.
        on = self.data.pop(True, None) or self.data.pop("on", {})
        names = [on] if isinstance(on, str) else on
        self.on: dict[str, Any] = dict.fromkeys(names) if isinstance(names, list) else dict(names)
        self.name: str = self.data.get("name", f"{FOLDER}/{file}")
        self.jobs: dict[str, dict[str, Any]] = self.data["jobs"]

    def woken(self, event: str, payload: Mapping[str, Any], changed: Sequence[str]) -> bool:
        """Whether the event wakes it; `changed` are the paths that a push or a pull request touches."""
        if event not in self.on:
            return False
        asked = self.on[event] or {}
        if event == "pull_request":
            branch = payload["pull_request"]["base"]["ref"]
            if payload["action"] not in asked.get("types", PULL_TYPES):
                return False
        elif event == "push":
            kind, _, branch = payload["ref"].removeprefix("refs/").partition("/")
            if kind != "heads" or payload["deleted"]:
                return False
        elif event == "workflow_run":
            workflow = payload["workflow_run"]["name"]
            return workflow in asked["workflows"] and payload["action"] in asked.get("types", RUN_TYPES)
        else:
            return True
        return _filtered(asked, "branches", [branch]) and _filtered(asked, "paths", changed)

    def stages(self) -> Iterator[list[str]]:
        """The jobs, those together that may run at once."""
        done: set[str] = set()
        while left := [name for name in self.jobs if name not in done]:
            ready = [name for name in left if set(needs(self.jobs[name])) <= done]
            if not ready:
                raise ValueError(f"{self.file}: jobs that need each other: {left}")
            yield ready
            done |= set(ready)

    def alone(self, job: str, before: Mapping[str, Ended], event: str, told: Path) -> str:
        """The file with this job alone. What it needs has run before: empty jobs of these names end as those did.
        The job's outputs go to the file `told`, each in a line, its value in base 64."""
        wanted = dict(self.jobs[job])
        if outputs := wanted.pop("outputs", None):
            lines = [f'echo {name}=$(printf %s "$O_{number}" | base64 -w0)' for number, name in enumerate(outputs)]
            step = {
                "name": "Tell the driver what came out",
                "if": "always()",
                "shell": "bash",
                "run": f"({'; '.join(lines)}) > '{told}'",
                "env": {f"O_{number}": expression for number, expression in enumerate(outputs.values())},
            }
            wanted["steps"] = [*wanted["steps"], step]
        jobs = {name: _ended(before[name]) for name in needs(wanted)}
        data = {**self.data, "on": {event: self.on.get(event)}, "jobs": {**jobs, job: wanted}}
        data.pop("concurrency", None)
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def needs(job: Mapping[str, Any]) -> list[str]:
    """The jobs that must have ended."""
    found = job.get("needs", [])
    return [found] if isinstance(found, str) else list(found)


def _ended(ended: Ended) -> dict[str, Any]:
    if any("${{" in text for text in ended.outputs.values()):
        raise ValueError("an output of a job is an expression")
    stub: dict[str, Any] = {"runs-on": [SITE_LABEL], "outputs": dict(ended.outputs)}
    if ended.result == "skipped":
        stub["if"] = False
    stub["steps"] = [{"run": "exit 0" if ended.result == "success" else "exit 1"}]
    return stub


def _filtered(asked: Mapping[str, Any], name: str, found: Sequence[str]) -> bool:
    """Whether the filter lets it pass: something matches, and nothing is wholly ignored."""
    if name in asked:
        return any(matches(asked[name], one) for one in found)
    ignored = asked.get(f"{name}-ignore")
    return ignored is None or not found or any(not matches(ignored, one) for one in found)


def matches(patterns: Sequence[str], path: str) -> bool:
    """Whether a filter's patterns match; a later one that begins with `!` takes back."""
    found = False
    for pattern in patterns:
        plain = pattern.removeprefix("!")
        parts = re.split(r"(\*\*/?|\*|\?)", plain)
        signs = {"**": ".*", "**/": "(?:.*/)?", "*": "[^/]*", "?": "."}
        if re.fullmatch("".join(signs.get(part, re.escape(part)) for part in parts), path):
            found = plain == pattern
    return found


def workflows(bare: Bare, commit: str) -> list[Workflow]:
    """All workflows at a commit."""
    listed = bare.git("ls-tree", "--name-only", commit, f"{FOLDER}/").splitlines()
    files = [path for path in listed if path.endswith((".yml", ".yaml"))]
    return [Workflow(path.rpartition("/")[2], bare.git("show", f"{commit}:{path}")) for path in files]


def changed(bare: Bare, before: str, after: str) -> list[str]:
    """The paths that differ between two commits; all, where there was nothing before."""
    try:
        return bare.git("diff", "--name-only", "--no-renames", before, after).splitlines()
    except GitFailed:
        return bare.git("ls-tree", "-r", "--name-only", after).splitlines()
