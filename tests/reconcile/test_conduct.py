"""What is told of a run, and what is done about one that was given up, without any process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgetrain.core.errors import NotFound
from edgetrain.core.ports import Harvest, RunPhase, RunState, TrackedRun
from edgetrain.core.record import Outcome
from edgetrain.reconcile import conduct
from edgetrain.reconcile.finish import Kept
from edgetrain.reconcile.logs import save_log
from edgetrain.reconcile.observe import GIVEN_UP, TICKETS
from tests.contract.memory_artifacts import MemoryArtifacts
from tests.contract.memory_compute import MemoryCompute, Run, World

FACTS: dict[str, Any] = {
    "experiment": "mean",
    "identity": "sha256:" + "ab" * 32,
    "attempt": 1,
    "model": "average",
    "commit": "c" * 40,
    "manifest": "sha256:" + "cd" * 32,
    "site": "lab",
    "target": "arc1",
    "provenance": {"pullRequest": "#7"},
    "metrics": [],
    "parameters": {},
}
NAME = conduct.ticket_name(FACTS)


def context(tmp_path: Path, **site: Any) -> Any:
    """As much of an apply's context as is asked for here."""
    settings = SimpleNamespace(secrets={}, workspace={"type": "azureml"})
    return SimpleNamespace(
        site=SimpleNamespace(state=tmp_path, configuration=settings, artifacts=MemoryArtifacts(), **site),
        state=SimpleNamespace(desired=SimpleNamespace(targets={})),
        scratch=tmp_path / "scratch",
        step=lambda name: None,
        tell=lambda *words: None,
    )


@pytest.mark.parametrize("given_up", [True, False])
def test_a_run_that_is_given_up_goes_on_nowhere(tmp_path: Path, given_up: bool) -> None:
    world, made = World(), context(tmp_path)
    run = world[NAME] = Run(RunState(RunPhase.RUNNING))
    made.site.artifacts.claim(TICKETS + NAME, b"{}")
    if given_up:
        made.site.artifacts.claim(GIVEN_UP + NAME, b"somebody")
    conduct.tidy(made, MemoryCompute(world), FACTS)
    assert run.stop.is_set() is given_up
    assert list(made.site.artifacts.claims(TICKETS)) == ([] if given_up else [(TICKETS + NAME, b"{}")])


def test_a_run_that_never_came_to_its_target_has_an_empty_log(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        list(MemoryCompute(World()).logs(NAME))
    save_log(context(tmp_path), MemoryCompute(World()), NAME, "arc1")
    assert (tmp_path / "logs" / f"{NAME}.log").read_text() == ""


def test_a_record_is_told_with_all_that_the_run_was_made_from(tmp_path: Path) -> None:
    """Also where the apply that submitted the run was killed before it told any of it."""
    told: list[TrackedRun] = []

    def track(run: TrackedRun) -> str:
        told.append(run)
        return run.id

    made = context(tmp_path, workspace=SimpleNamespace(track=track))
    state = RunState(RunPhase.ENDED, ended_by="exit", exit_code=0)
    conduct.track(made, FACTS, state, Outcome.CANDIDATE, Kept(), Harvest((), {}))
    assert told[0].tags == {
        **{f"edgetrain.{name}": str(FACTS[name]) for name in ("experiment", "model", "identity", "attempt")},
        **{f"edgetrain.{name}": str(FACTS[name]) for name in ("commit", "manifest", "site", "target")},
        "edgetrain.pullRequest": "#7",
        "edgetrain.outcome": "candidate",
    }
