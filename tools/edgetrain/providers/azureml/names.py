"""The names that runs of ours have in Azure ML, which takes no dot in them: only those made aside have one."""

from __future__ import annotations

import re

_ASIDE = re.compile(
    r"([a-z0-9-]+)[._]((score)-[0-9a-f]{12}-[0-9a-f]{12}-[1-9]\d*|(reproduce)-[0-9a-f]{12}-[1-9]\d*)"
)


def theirs(run_id: str) -> str:
    """The id in Azure ML of a run of ours."""
    aside = _ASIDE.fullmatch(run_id)
    return f"{aside[1]}_{aside[2]}" if aside else run_id


def ours(run_id: str) -> str:
    """Our id of a run in Azure ML."""
    aside = _ASIDE.fullmatch(run_id)
    return f"{aside[1]}.{aside[2]}" if aside else run_id


def experiment_of(run_id: str) -> str:
    """The experiment there that a run of ours is of: `<name>` of `<name>-<identity12>-<attempt>`; of a
    scoring `<model>_score`, of a run that makes a version again `<name>_reproduce`."""
    aside = _ASIDE.fullmatch(run_id)
    return f"{aside[1]}_{aside[3] or aside[4]}" if aside else run_id.rsplit("-", 2)[0] or run_id
