"""What doctor can tell of evaluations: their held-out data, and the folder that a cluster's pods read models from.

Whether pods have that mounted only a run there sees; what the records tell of such runs is said.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from edgetrain.core.desired import Desired
from edgetrain.core.evaluation import EVALUATION_FAILED, SCORING_FOLDER
from edgetrain.core.kinds import ComputeTarget, Experiment
from edgetrain.core.kinds.experiment import DataInput
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.core.record import Record
from edgetrain.core.recorded import Recorded

NOT_MOUNTED = "is not mounted in the pod"
GUIDE = "docs/evaluation.md, Where Azure ML starts the trainings"


def read_there(desired: Desired, experiment: Experiment) -> Iterator[DataInput]:
    """What the experiment's runs read, and what the evaluation of its model holds out."""
    yield from experiment.data.values()
    model = desired.models.get(experiment.model)
    if model is not None and model.evaluation is not None:
        yield from model.evaluation.data.values()


def scoring_checks(
    desired: Desired, recorded: Recorded, state: Path, target: ComputeTarget, experiments: list[Experiment]
) -> Iterator[Check]:
    """Of a cluster on which an evaluation may come to run; nothing for any other target. `state` is the site's."""
    evaluated = any((model := desired.models.get(one.model)) and model.evaluation for one in experiments)
    if target.only_submitted and evaluated:
        place = state / SCORING_FOLDER
        yield _folder(place)
        yield _mount(recorded, target, place)


def _folder(place: Path) -> Check:
    """The runner's side of it."""
    try:
        found = place.lstat()
    except FileNotFoundError:
        what = f"{place} is not there yet: the first scoring makes it, and pods must have it mounted by then"
        fix = f"mkdir -m 700 {place}; then mount it in the pods at the same path ({GUIDE})"
        return Check("scoring-folder", CheckStatus.WARN, what, "ScoringFolderMissing", fix)
    if not stat.S_ISDIR(found.st_mode) or not os.access(place, os.W_OK | os.X_OK):
        what = f"{place} is no folder that this account can write to"
        fix = "move away what is there, and let the runner's account have a folder"
        return Check("scoring-folder", CheckStatus.FAIL, what, "ScoringFolderUnfit", fix)
    open_ = "every account may read it" if found.st_mode & 0o005 == 0o005 else f"account {found.st_uid} may read it"
    return Check("scoring-folder", CheckStatus.PASS, f"{place} is here, and {open_}: pods must run as one that may")


def _mount(recorded: Recorded, target: ComputeTarget, place: Path) -> Check:
    """The pods' side, as far as the last evaluation there tells."""
    name = target.metadata.name
    every = sorted([*recorded.runs, *recorded.evaluations], key=lambda record: record.ordinal)
    for record in reversed(every):
        evaluation = record.data.get("evaluation") or {}
        if evaluation.get("target") == name and "metrics" in evaluation:
            what = f"the last evaluation on {name} read its model there ({record.path})"
            return Check("scoring-mount", CheckStatus.PASS, what)
        failed = record.data.get("reason") == EVALUATION_FAILED and NOT_MOUNTED in str(record.data.get("message"))
        if failed and _ran_on(recorded, record) == name:
            what = f"the last evaluation on {name} did not find it mounted: {record.data['message']}"
            fix = f"mount {place}, and the folders of held-out data, in the pods at the same paths ({GUIDE})"
            return Check("scoring-mount", CheckStatus.WARN, what, "ScoringNotMounted", fix)
    what = f"whether the pods of {name} have {place} mounted only an evaluation there can tell, and none ran yet"
    fix = f"see that it is mounted at the same path, to be read by the pods' account ({GUIDE})"
    return Check("scoring-mount", CheckStatus.WARN, what, "NotSeen", fix)


def _ran_on(recorded: Recorded, record: Record) -> str:
    """The target that the record's run was made on."""
    run = recorded.run(str(record.data["run"])) if record.kind == "EvaluationRecord" else record
    return str(run.data["target"]["name"]) if run is not None else ""
