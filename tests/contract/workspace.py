"""The contract of the workspace port: what every provider of it must do, run by a subclass per provider."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edgetrain.core.errors import Conflict, NotFound, Rejected
from edgetrain.core.ports import CheckStatus, MetricPoint, TrackedRun, Workspace
from edgetrain.providers.diagnosis import REHEARSAL

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
RUN = TrackedRun(
    id="digits-0123456789ab-1",
    experiment="digits",
    outcome="candidate",
    parameters={"reg": "0.5", "seed": "42"},
    metrics={"accuracy": 0.95, "macro_f1": 0.94},
    history=[MetricPoint("accuracy", 0.5 + step / 100, step) for step in range(40)],
    tags={"edgetrain.identity": "0123456789ab", "edgetrain.commit": "c0ffee"},
    started="2026-07-01T10:00:00Z",
    ended="2026-07-01T10:05:00Z",
)


@dataclass(frozen=True)
class Seen:
    """A tracked run as someone who looks into the workspace finds it. Times in seconds since 1970."""

    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    history: Mapping[str, Sequence[tuple[int, float]]]
    tags: Mapping[str, str]
    status: str
    started: float
    ended: float


class WorkspaceContract(ABC):
    """Subclass as `Test...`, and say how to make the provider and how to look into it."""

    @abstractmethod
    def make(self, state: Path) -> Workspace:
        """A provider; two of the same `state` are two views of one workspace."""

    @abstractmethod
    def seen(self, workspace: Workspace, experiment: str) -> Sequence[Seen]:
        """All runs of an experiment, by a way that is not the provider's own."""

    @pytest.fixture
    def workspace(self, tmp_path: Path) -> Workspace:
        return self.make(tmp_path / "site state")

    def test_a_diagnosis_passes_and_tracks_nothing(self, workspace: Workspace) -> None:
        assert {check.status for check in workspace.diagnose()} == {CheckStatus.PASS}
        workspace.track(RUN)
        before = self.seen(workspace, "digits")
        assert {check.status for check in workspace.diagnose()} == {CheckStatus.PASS}
        assert self.seen(workspace, "digits") == before

    def test_a_run_is_tracked_whole(self, workspace: Workspace) -> None:
        assert workspace.track(RUN)
        (run,) = self.seen(workspace, "digits")
        assert dict(run.parameters) == RUN.parameters
        assert dict(run.metrics) == RUN.metrics
        expected = [(point.step, point.value) for point in RUN.history]
        assert list(run.history["accuracy"])[:40] == expected
        assert run.tags["edgetrain.identity"] == "0123456789ab"
        assert run.tags["edgetrain.run"] == RUN.id
        assert run.tags["edgetrain.outcome"] == "candidate"
        assert run.ended - run.started == 300

    def test_a_tracked_run_can_be_read_again(self, workspace: Workspace) -> None:
        number = workspace.track(RUN)
        found = workspace.tracked(number, RUN.metrics)
        assert found is not None
        assert dict(found.metrics) == RUN.metrics
        assert dict(found.parameters) == RUN.parameters
        assert RUN.tags.items() <= found.tags.items()
        assert found.tags["edgetrain.run"] == RUN.id
        assert workspace.tracked("0" * 32, ["accuracy"]) is None
        assert workspace.tracked("", []) is None

    def test_the_final_metric_is_the_one_shown(self, workspace: Workspace) -> None:
        history = [MetricPoint("accuracy", value, step) for step, value in enumerate([0.99, 0.5])]
        number = workspace.track(replace(RUN, history=history, metrics={"accuracy": 0.7}))
        found = workspace.tracked(number, ["accuracy"])
        assert found is not None
        assert found.metrics["accuracy"] == 0.7
        assert self.seen(workspace, "digits")[0].metrics["accuracy"] == 0.7

    def test_tracking_again_changes_nothing(self, workspace: Workspace, tmp_path: Path) -> None:
        first = workspace.track(RUN)
        before = self.seen(workspace, "digits")
        assert workspace.track(RUN) == first
        assert self.make(tmp_path / "site state").track(RUN) == first
        assert self.seen(workspace, "digits") == before

    def test_another_attempt_is_another_run(self, workspace: Workspace) -> None:
        first = workspace.track(RUN)
        assert workspace.track(replace(RUN, id="digits-0123456789ab-2")) != first
        assert len(self.seen(workspace, "digits")) == 2

    def test_a_changed_outcome_is_taken_over(self, workspace: Workspace) -> None:
        first = workspace.track(replace(RUN, outcome="rejected"))
        assert workspace.track(RUN) == first
        (run,) = self.seen(workspace, "digits")
        assert run.tags["edgetrain.outcome"] == "candidate"
        assert len(run.history["accuracy"]) == 41

    @pytest.mark.parametrize(
        ("outcome", "status"),
        [
            ("candidate", "FINISHED"),
            ("not_better", "FINISHED"),
            ("failed", "FAILED"),
            ("rejected", "FAILED"),
            ("lost", "FAILED"),
            ("cancelled", "KILLED"),
        ],
    )
    def test_the_outcome_decides_the_status(self, workspace: Workspace, outcome: str, status: str) -> None:
        workspace.track(replace(RUN, outcome=outcome))
        assert self.seen(workspace, "digits")[0].status == status

    def test_a_run_without_times_or_metrics(self, workspace: Workspace) -> None:
        lost = replace(RUN, outcome="lost", metrics={}, history=[], parameters={}, started=None, ended=None)
        assert workspace.track(lost) == workspace.track(lost)
        assert len(self.seen(workspace, "digits")) == 1

    def test_a_long_history_is_kept_whole(self, workspace: Workspace) -> None:
        history = [MetricPoint("loss", 1 / (step + 1), step) for step in range(2500)]
        workspace.track(replace(RUN, history=history, metrics={"loss": 1 / 2500}))
        run = self.seen(workspace, "digits")[0]
        assert list(run.history["loss"]) == [(point.step, point.value) for point in history]

    def test_an_absent_model_is_left_out(self, workspace: Workspace) -> None:
        assert workspace.observe(["digits"]) == {}
        workspace.register("digits", 1, "", DIGEST, {})
        assert set(workspace.observe(["digits", "other"])) == {"digits"}

    def test_a_version_is_registered_once_with_its_tags(self, workspace: Workspace, tmp_path: Path) -> None:
        run = workspace.track(RUN)
        number = workspace.register("digits", 3, run, DIGEST, {"edgetrain.commit": "c0ffee"})
        assert workspace.register("digits", 3, run, DIGEST, {"edgetrain.commit": "c0ffee"}) == number
        again = self.make(tmp_path / "site state")
        assert again.register("digits", 3, run, DIGEST, {"edgetrain.commit": "c0ffee"}) == number
        model = workspace.observe(["digits"])["digits"]
        assert set(model.versions) == {3}
        assert model.versions[3].number == number
        assert model.versions[3].tags["edgetrain.commit"] == "c0ffee"
        assert model.versions[3].tags["edgetrain.digest"] == DIGEST
        assert model.versions[3].tags["edgetrain.version"] == "3"

    def test_the_number_is_the_workspaces_own(self, workspace: Workspace) -> None:
        numbers = [workspace.register("digits", version, "", DIGEST, {}) for version in (7, 2, 12)]
        assert len(set(numbers)) == 3
        found = workspace.observe(["digits"])["digits"].versions
        assert [found[version].number for version in (7, 2, 12)] == numbers

    def test_another_digest_under_the_same_version_is_a_conflict(self, workspace: Workspace) -> None:
        workspace.register("digits", 1, "", DIGEST, {})
        with pytest.raises(Conflict) as raised:
            workspace.register("digits", 1, "", OTHER, {})
        assert raised.value.reason == "DigestDiffers"
        assert workspace.observe(["digits"])["digits"].versions[1].tags["edgetrain.digest"] == DIGEST

    def test_marks_are_added_and_replaced(self, workspace: Workspace) -> None:
        workspace.register("digits", 1, "", DIGEST, {"a": "1"})
        for _ in range(2):
            workspace.mark("digits", 1, {"a": "2", "edgetrain.withdrawn": "wrong labels"})
            tags = workspace.observe(["digits"])["digits"].versions[1].tags
            assert (tags["a"], tags["edgetrain.withdrawn"]) == ("2", "wrong labels")
            assert tags["edgetrain.version"] == "1"

    def test_channels_are_set_moved_and_removed(self, workspace: Workspace) -> None:
        for version in (1, 2):
            workspace.register("digits", version, "", DIGEST, {})
        seen = []
        for version in (1, 1, 2, 1, None, None):
            workspace.alias("digits", "production", version)
            seen.append(workspace.observe(["digits"])["digits"].channels)
        assert seen == [{"production": 1}, {"production": 1}, {"production": 2}, {"production": 1}, {}, {}]

    def test_what_is_not_registered_is_not_found(self, workspace: Workspace) -> None:
        with pytest.raises(NotFound):
            workspace.mark("digits", 1, {"a": "1"})
        workspace.register("digits", 1, "", DIGEST, {})
        with pytest.raises(NotFound):
            workspace.mark("digits", 2, {"a": "1"})
        with pytest.raises(NotFound):
            workspace.alias("digits", "production", 2)
        workspace.alias("absent", "production", None)

    @pytest.mark.parametrize("name", ["a'b", "../x", "", "a b", "x" * 300])
    def test_names_that_could_harm_are_rejected(self, workspace: Workspace, name: str) -> None:
        with pytest.raises(Rejected):
            workspace.register(name, 1, "", DIGEST, {})
        with pytest.raises(Rejected):
            workspace.track(replace(RUN, id=name))

    def test_a_rehearsal_passes_and_leaves_nothing(self, workspace: Workspace) -> None:
        for _ in range(2):
            assert [(c.name, c.status) for c in workspace.rehearse() if c.status is not CheckStatus.PASS] == []
            assert workspace.observe([REHEARSAL]) == {}
            assert self.seen(workspace, REHEARSAL) == []

    def test_where_tells_a_person(self, workspace: Workspace) -> None:
        assert workspace.where()
        assert "\n" not in workspace.where()
