"""All records at once: what is known without asking anybody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edgetrain.core.record import (
    JUDGED,
    EvaluationRecord,
    Outcome,
    ProposalRecord,
    Record,
    ReleaseRecord,
    RunRecord,
)
from edgetrain.core.scores import ENTRY


@dataclass(frozen=True)
class Recorded:
    """All records in git: what is known without asking anybody."""

    runs: tuple[RunRecord, ...] = ()
    evaluations: tuple[EvaluationRecord, ...] = ()
    proposals: tuple[ProposalRecord, ...] = ()
    releases: tuple[ReleaseRecord, ...] = ()

    @classmethod
    def of(cls, records: Iterable[Record]) -> Recorded:
        """Sorted by the order of facts, then by path."""
        every = sorted(records, key=lambda record: (record.ordinal, record.path))
        return cls(
            runs=tuple(r for r in every if isinstance(r, RunRecord)),
            evaluations=tuple(r for r in every if isinstance(r, EvaluationRecord)),
            proposals=tuple(r for r in every if isinstance(r, ProposalRecord)),
            releases=tuple(r for r in every if isinstance(r, ReleaseRecord)),
        )

    # Thousands of runs are asked about one by one, so each question has its index.

    @cached_property
    def _by_digest(self) -> dict[str, RunRecord]:
        return {run.digest: run for run in reversed(self.runs)}

    @cached_property
    def _again(self) -> dict[str, list[EvaluationRecord]]:
        found: dict[str, list[EvaluationRecord]] = {}
        for one in sorted(self.evaluations, key=lambda e: int(e.data["number"])):
            found.setdefault(one.run, []).append(one)
        return found

    @cached_property
    def _by_model(self) -> dict[str, list[ReleaseRecord]]:
        found: dict[str, list[ReleaseRecord]] = {}
        for release in self.releases:
            found.setdefault(release.model, []).append(release)
        return found

    @cached_property
    def _by_experiment(self) -> dict[str, list[RunRecord]]:
        found: dict[str, list[RunRecord]] = {}
        for run in self.runs:
            found.setdefault(run.experiment, []).append(run)
        return found

    def run(self, digest: str) -> RunRecord | None:
        """The run record of this digest."""
        return self._by_digest.get(digest)

    def runs_of(self, experiment: str) -> Sequence[RunRecord]:
        """The experiment's run records."""
        return self._by_experiment.get(experiment, ())

    def evaluation(self, run: RunRecord) -> EvaluationRecord | None:
        """The run's last evaluation record, by its number."""
        again = self._again.get(run.digest)
        return again[-1] if again else None

    def outcome(self, run: RunRecord) -> Outcome:
        """The run's outcome, by its last evaluation."""
        last = self.evaluation(run)
        return last.outcome if last else run.outcome

    def gates(self, run: RunRecord) -> Mapping[str, Any]:
        """The run's gates as last judged."""
        last = self.evaluation(run)
        return dict((last or run).data["gates"])

    @cached_property
    def _released(self) -> Mapping[tuple[str, int], ReleaseRecord]:
        mine = (r for r in self.releases if r.event == "released")
        return {(r.model, r.version): r for r in reversed(list(mine))}

    def judged(self, run: RunRecord) -> Mapping[str, Any]:
        """What the run was last judged by: `metrics`, `metricsSource`, and with an evaluation `evaluation` and
        `selfReported`. Records of the first released format hold no metrics of a later judgement."""
        return self.judgements(run)[-1]

    def judgements(self, run: RunRecord) -> Sequence[Mapping[str, Any]]:
        """The same of each judgement of the run, the last one last."""
        every = [run.data, *(e.data for e in self._again.get(run.digest, ()) if "metrics" in e.data)]
        return [{key: data[key] for key in JUDGED if key in data} for data in every]

    @cached_property
    def _scores(self) -> dict[tuple[str, str], dict[str, Any]]:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for record in (*self.runs, *self.evaluations):
            if told := record.data.get("evaluation"):
                for entry in (told, *told["references"].values()):
                    if "metrics" in entry:
                        kept = {**{key: entry[key] for key in ENTRY if key in entry}, "inputs": told["inputs"]}
                        found.setdefault((told["identity"], entry["artifact"]), kept)
        return found

    def score(self, evaluation: str, artifact: str | None) -> Mapping[str, Any] | None:
        """What that evaluation measured of that model, with the `inputs` that it was measured on: nothing is scored
        twice. None if no record tells."""
        return self._scores.get((evaluation, artifact)) if artifact else None

    def release(self, model: str, version: int) -> ReleaseRecord | None:
        """The record that the version was released."""
        return self._released.get((model, version))

    def registration(self, model: str, version: int) -> ReleaseRecord | None:
        """The last record that the version was registered in a workspace: at its release, or after a move."""
        mine = (r for r in self._by_model.get(model, ()) if r.version == version)
        found = (r for r in mine if r.event in ("released", "registered"))
        return max(found, key=lambda r: int(r.data["number"]), default=None)

    def next_release_number(self, model: str, version: int) -> int:
        """The `k` of the next release record of this version."""
        return 1 + max(
            (int(r.data["number"]) for r in self._by_model.get(model, ()) if r.version == version),
            default=0,
        )

    def channel_head(self, model: str, channel: str) -> ReleaseRecord | None:
        """The channel's last move. Moves form a chain by digest, so no clock is asked."""
        mine = self._by_model.get(model, ())
        moves = [r for r in mine if r.event == "channel" and r.data["channel"] == channel]
        followed = {r.data.get("follows") for r in moves}
        return next((r for r in moves if r.digest not in followed), None)

    def channels(self, model: str) -> dict[str, int]:
        """What each channel points to, by the records."""
        names = {r.data["channel"] for r in self._by_model.get(model, ()) if r.event == "channel"}
        heads = {name: self.channel_head(model, name) for name in sorted(names)}
        return {name: head.data["to"] for name, head in heads.items() if head and head.data["to"] is not None}

    def withdrawn(self, model: str) -> set[int]:
        """Versions whose withdrawal is recorded."""
        return {r.version for r in self._by_model.get(model, ()) if r.event == "withdrawn"}
