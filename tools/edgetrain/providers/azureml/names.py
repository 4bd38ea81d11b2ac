"""The names that runs of ours have in Azure ML, which takes no dot in them: only those of scorings have one."""

from __future__ import annotations

import re

_SCORING = re.compile(r"([a-z0-9-]+)[._](score-[0-9a-f]{12}-[0-9a-f]{12}-[1-9]\d*)")


def theirs(run_id: str) -> str:
    """The id in Azure ML of a run of ours."""
    scoring = _SCORING.fullmatch(run_id)
    return f"{scoring[1]}_{scoring[2]}" if scoring else run_id


def ours(run_id: str) -> str:
    """Our id of a run in Azure ML."""
    scoring = _SCORING.fullmatch(run_id)
    return f"{scoring[1]}.{scoring[2]}" if scoring else run_id


def experiment_of(run_id: str) -> str:
    """The experiment there that a run of ours is of: `<name>` of `<name>-<identity12>-<attempt>`; and of a
    scoring `<model>_score`."""
    scoring = _SCORING.fullmatch(run_id)
    return f"{scoring[1]}_score" if scoring else run_id.rsplit("-", 2)[0] or run_id
