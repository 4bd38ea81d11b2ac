"""One run of a workflow: what woke it, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from testbed.actions.act import Annotation, Job
from testbed.actions.workflow import Ended, Workflow

Payload = dict[str, Any]


@dataclass
class Run:
    """One run of a workflow. `jobs` are those that ran, by name; `results` how every job ended."""

    id: int
    workflow: Workflow
    event: str
    payload: Payload
    commit: str
    ref: str
    actor: str
    attempt: int = 1
    conclusion: str = ""
    results: dict[str, Ended] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    stopped: str = ""

    @property
    def file(self) -> str:
        """The workflow file's name."""
        return self.workflow.file

    @property
    def log(self) -> str:
        """What all jobs said."""
        return "".join(f"--- {name}\n{job.log.text}" for name, job in self.jobs.items())

    @property
    def annotations(self) -> list[Annotation]:
        """Those of all jobs."""
        return [one for job in self.jobs.values() for one in job.log.annotations]

    @property
    def summary(self) -> str:
        """What all jobs wrote for the page of the run."""
        return "".join(job.log.summary for job in self.jobs.values())


def head(run: Run) -> str:
    """The commit whose checks its jobs are."""
    return str(run.payload["pull_request"]["head"]["sha"]) if run.event == "pull_request" else run.commit


def forked(payload: Mapping[str, Any]) -> bool:
    """Whether the pull request comes from another repository."""
    pull = payload["pull_request"]
    return bool(pull["head"]["repo"]["full_name"] != pull["base"]["repo"]["full_name"])


def conclude(run: Run) -> str:
    """How a run has ended, by its jobs."""
    results = {ended.result for ended in run.results.values()}
    for worst in ("failure", "cancelled", "success"):
        if worst in results:
            return worst
    return "skipped" if results else "failure"
