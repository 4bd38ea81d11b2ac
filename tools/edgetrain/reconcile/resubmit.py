"""Making a version again where Azure ML alone reaches the target: a run is submitted, and its entry stays there.

It has an id that no run of apply has, and no ticket: nothing but `edgetrain reproduce` takes it for one of ours. A
call that is killed leaves it to the next one, which takes it up; and a note with the site's state, by which `runs`,
`logs` and `cancel` find it without asking Azure ML for all runs of the target.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from edgetrain.core.digest import digest_of, short
from edgetrain.core.egress import code_json
from edgetrain.core.errors import Conflict, Denied, ProviderError, Transient
from edgetrain.core.kinds import ComputeTarget, Experiment
from edgetrain.core.ports import Compute, RunPhase, RunState
from edgetrain.core.record import RunRecord
from edgetrain.providers.durable import disk, incoming
from edgetrain.reconcile.facts import given, leaving_of
from edgetrain.reconcile.report import Event, Report
from edgetrain.reconcile.site import Site
from edgetrain.render.words import plural
from edgetrain.repo.snapshot import snapshot
from edgetrain.repo.tree import Tree

# The run ids of what is made again. No experiment's name has a dot, so no run has one of these.
AGAIN = re.compile(r".+\.reproduce-[0-9a-f]{12}-[1-9][0-9]*")
# Ends that say nothing of the model: the run could not be made.
NOT_MADE = frozenset({"environment", "sandbox", "data"})
FORGOTTEN = "the run was recorded and cleared away"
MOST_NOTE = 2**16


@dataclass(frozen=True)
class Submitted:
    """A version made again by a run that is submitted to `target`."""

    version: str
    run: RunRecord
    experiment: Experiment
    target: ComputeTarget

    def name(self, attempt: int) -> str:
        """The id of the nth such run: of this record, on this target."""
        of = digest_of({"record": self.run.digest, "target": self.target.metadata.name})
        return f"{self.run.experiment}.reproduce-{short(of)}-{attempt}"

    @property
    def note(self) -> Mapping[str, str]:
        """What is noted of such a run."""
        names = {"experiment": self.run.experiment, "model": self.run.model, "version": self.version}
        return {**names, "target": self.target.metadata.name}

    @property
    def facts(self) -> Mapping[str, Any]:
        """What may leave, in the form of a ticket: what left with the recorded run, but for its log."""
        return {**given(self.experiment, {}), "logs": "site"}

    def more(self, site: Site) -> Mapping[str, Any]:
        """What is submitted beside the run itself."""
        tags = {
            "reproduces": self.version,
            "run": self.run.run_id,
            "commit": str(self.run.data["commit"]),
            "site": site.name,
        }
        return {
            "leaving": replace(leaving_of(self.facts), stay=True),
            "tags": {f"edgetrain.{name}": value for name, value in tags.items()},
        }

    def left(self, compute: Compute, notes: Notes) -> tuple[str, RunState]:
        """The run that an ended call has left, or the id of the next. What is of no use is cleared away."""
        for attempt in count(1):
            name = self.name(attempt)
            state = compute.inspect(name)
            if not of_no_use(state):
                return name, state
            compute.forget(name)
            notes.drop(name)
        raise AssertionError("counting does not end")

    def stays(self, tree: Tree, site: Site) -> str:
        """What Azure ML keeps of it, in words."""
        code = code_json(snapshot(tree, self.experiment.code_folder))
        read = [site.datastore(one.datastore).source(one.path).location for one in self.experiment.data.values()]
        told = [
            f"the code ({plural(code['files'], 'file')}, {code['bytes']} bytes)",
            "the names of its packages",
            *([f"where it reads ({', '.join(read)})"] if read else []),
            "parameters",
            *([f"the metrics {', '.join(self.experiment.metrics)}"] if self.experiment.metrics else []),
            "names, sizes and digests of its outputs' files",
        ]
        return f"{', '.join(told[:-1])} and {told[-1]}; no data, no byte of an output, no log of the script"


class Notes:
    """What is noted at the site of runs that make a version again, until their call has seen them to the end."""

    def __init__(self, site: Site) -> None:
        self._folder = site.state / "reproductions"

    def write(self, name: str, submitted: Submitted) -> None:
        """Note the run before it is submitted. Raises ProviderError."""
        with disk("noting a run at the site"), incoming(self._folder) as file:
            file.write(json.dumps(submitted.note).encode())
            file.replace(self._folder / name)

    def drop(self, name: str) -> None:
        """Note it no more."""
        with suppress(OSError):  # whoever reads it asks Azure ML, and learns that it is over
            (self._folder / name).unlink(missing_ok=True)

    def read(self) -> dict[str, dict[str, str]]:
        """The notes by run; what can't be read is none."""
        found = {}
        with suppress(OSError):
            for file in sorted(self._folder.iterdir()):
                facts = _note_of(file) if AGAIN.fullmatch(file.name) else None
                if facts is not None:
                    found[file.name] = facts
        return found


def _note_of(file: Path) -> dict[str, str] | None:
    try:
        with file.open("rb") as opened:
            value = json.loads(opened.read(MOST_NOTE))
        return {key: str(value[key]) for key in ("experiment", "model", "version", "target")}
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None


def not_made(state: RunState) -> bool:
    """Whether the run's end says nothing of the model; so does one that only ever waited for its beginning."""
    never = state.ended_by == "timeout" and state.started is None
    return state.phase is RunPhase.LOST or state.ended_by in NOT_MADE or never


def of_no_use(state: RunState) -> bool:
    """Whether nothing can be compared with the run: it was cancelled, not made, or cleared away."""
    return state.ended_by == "cancel" or not_made(state)


def entry(name: str) -> str:
    """The run's id in Azure ML."""
    from edgetrain.providers.azureml.names import theirs

    return theirs(name)


def in_our_words(name: str) -> str:
    """Our id of a run that a person may name as Azure ML does."""
    from edgetrain.providers.azureml.names import ours

    return ours(name)


def let_go(compute: Compute, submitted: Submitted, notes: Notes, report: Report) -> None:
    """End the run that an ended call has left, where nothing can be compared with it any more."""
    name, state = submitted.left(compute, notes)
    if state.phase in (RunPhase.PREPARING, RunPhase.RUNNING):
        report(Event("Cancelling", name, "an ended call left it under way"))
        compute.cancel(name, "Interrupted")
    elif state.phase is RunPhase.ENDED:
        compute.forget(name)
        notes.drop(name)


@contextmanager
def kept_for_later(compute: Compute, notes: Notes, name: str) -> Iterator[None]:
    """Leave a run that can't be asked now to the next call, and say so; note of any other that it was read."""
    try:
        yield
    except (Transient, Denied) as error:
        again = f"{entry(name)} is left in Azure ML, where it may go on: call again to take it up"
        error.fix = f"{error.fix}; {again}" if error.fix else again
        raise
    except BaseException:
        with suppress(ProviderError):
            compute.forget(name)
            notes.drop(name)
        raise
    compute.forget(name)
    notes.drop(name)


def check_whose(ended: RunState) -> None:
    """Raises Conflict for a run that somebody else has read to its end meanwhile."""
    if ended.phase is RunPhase.LOST and ended.message == FORGOTTEN:
        raise Conflict(
            "another call of reproduce took the same run to its end",
            reason="TakenUp",
            fix="see what it said, or call again to train once more",
        )


def answers(checkout: Path, name: str) -> Path:
    """Where the answer is kept in the checkout."""
    from edgetrain.reconcile.aside import own_folder

    made = own_folder(checkout) / "runs" / name
    made.mkdir(parents=True, exist_ok=True)
    return made
