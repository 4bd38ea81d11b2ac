"""Desired state: every manifest of one commit (or work tree), with the digests that identity needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from edgetrain.core.digest import digest_of
from edgetrain.core.kinds import ComputeTarget, Configuration, Experiment, Model, ModelVersion
from edgetrain.core.snapshot import Snapshot


@dataclass(frozen=True)
class EvaluationFiles:
    """The digests of an evaluation's code and of its own lock file, if any; `snapshot` are the code's files."""

    code: str
    lock: str | None = None
    snapshot: Snapshot = field(default_factory=Snapshot, compare=False)


@dataclass(frozen=True)
class Desired:
    """What git wants. `code` and `locks` hold each experiment's code tree digest and lock digest, `snapshots`
    the code's files, `evaluations` the same of each model that has an evaluation.

    `version_commits` maps `(model, n)` to the commit that put the version on main, where known.
    """

    configuration: Configuration
    targets: Mapping[str, ComputeTarget] = field(default_factory=dict)
    experiments: Mapping[str, Experiment] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    versions: Mapping[tuple[str, int], ModelVersion] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    locks: Mapping[str, str | None] = field(default_factory=dict)
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    evaluations: Mapping[str, EvaluationFiles] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of all that is wanted; the commit's id is not in it, for merging alters that."""
        documents = [
            self.configuration.document,
            *(item.document for item in self.targets.values()),
            *(item.document for item in self.experiments.values()),
            *(item.document for item in self.models.values()),
            *(item.document for item in self.versions.values()),
        ]
        evaluations = {name: [files.code, files.lock] for name, files in self.evaluations.items()}
        return digest_of(
            {
                "manifests": {document.path: document.digest for document in documents},
                "code": dict(self.code),
                "locks": dict(self.locks),
                **({"evaluations": evaluations} if evaluations else {}),
            }
        )

    def latest_version(self, model: str) -> int:
        """The highest merged number; 0 if none."""
        return max(self.numbers(model), default=0)

    @cached_property
    def _numbers(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for model, number in sorted(self.versions):
            found.setdefault(model, []).append(number)
        return found

    @cached_property
    def _cited(self) -> frozenset[str]:
        return frozenset(version.record for version in self.versions.values())

    def numbers(self, model: str) -> Sequence[int]:
        """The model's version numbers, in order."""
        return self._numbers.get(model, ())

    def cites(self, record: str) -> bool:
        """Whether a version cites the run record of this digest."""
        return record in self._cited

    def targets_for(self, experiment: Experiment) -> list[ComputeTarget]:
        """The targets that the experiment may use, by name or by label selector, sorted by name."""
        if experiment.compute is not None:
            target = self.targets.get(experiment.compute)
            return [target] if target else []
        return [
            target
            for _, target in sorted(self.targets.items())
            if experiment.selector.items() <= {**target.metadata.labels, "site": target.site}.items()
        ]
