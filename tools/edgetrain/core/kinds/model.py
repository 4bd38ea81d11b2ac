"""Model: what a name stands for, how it is evaluated, the gates to it, its channels and its withdrawn versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgetrain.core.document import Document
from edgetrain.core.kinds.common import Metadata, below
from edgetrain.core.kinds.experiment import DataInput, Environment

# The name under which an evaluation's command finds the model.
MODEL_INPUT = "model"
EVERY_SLICE = "*"


@dataclass(frozen=True)
class Gate:
    """One condition on one metric. `reference` is the channel of `notWorseThan`; `slice` one slice of the held-out
    data, or `*`: each of them."""

    metric: str
    goal: str = "maximize"
    min: float | None = None
    max: float | None = None
    reference: str | None = None
    tolerance: float = 0.0
    slice: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """How candidates are scored on held-out data. No `metrics`: those that the gates name; no `slices`: all that it
    reports; no `environment`: that of the run's own experiment."""

    code: str
    command: str
    data: Mapping[str, DataInput]
    metrics: tuple[str, ...]
    slices: tuple[str, ...]
    environment: Environment | None


@dataclass(frozen=True)
class ImageSettings:
    """Where the model's image goes and what it stands on; `base` is `scratch` or a reference by digest."""

    repository: str
    base: str = "scratch"
    registry: str | None = None


@dataclass(frozen=True)
class Model:
    """One model. `channels` maps a channel to a version number, `withdrawn` a number to the reason."""

    metadata: Metadata
    document: Document = field(repr=False, compare=False)
    card: Mapping[str, Any]
    evaluation: Evaluation | None
    gates: tuple[Gate, ...]
    release: str
    image: ImageSettings
    channels: Mapping[str, int]
    withdrawn: Mapping[int, str]

    @classmethod
    def from_document(cls, document: Document) -> Model:
        """From a document that passed the schema."""
        spec = document.data["spec"]
        metadata = Metadata.parse(document.data["metadata"])
        image = spec.get("image", {})
        return cls(
            metadata=metadata,
            document=document,
            card=spec.get("card", {}),
            evaluation=_evaluation(spec["evaluation"]) if "evaluation" in spec else None,
            gates=tuple(_gate(gate) for gate in spec.get("gates", ())),
            release=spec.get("release", "review"),
            image=ImageSettings(
                repository=image.get("repository", metadata.name),
                base=image.get("base", "scratch"),
                registry=image.get("registry"),
            ),
            channels=dict(spec.get("channels", {})),
            withdrawn={int(number): reason for number, reason in spec.get("withdrawn", {}).items()},
        )

    @property
    def name(self) -> str:
        """The model's name."""
        return self.metadata.name

    @property
    def folder(self) -> str:
        """Where the model lies in the repository."""
        return f"models/{self.metadata.name}"

    @property
    def evaluation_folder(self) -> str:
        """Where the code of its evaluation lies in the repository; empty if it has none."""
        return below(self.folder, self.evaluation.code) if self.evaluation else ""

    @property
    def evaluation_lock(self) -> str | None:
        """Where the lock file of its evaluation lies in the repository; None if that names none of its own."""
        own = self.evaluation.environment if self.evaluation else None
        return below(self.folder, own.requirements) if own and own.requirements else None

    @property
    def scored(self) -> tuple[str, ...]:
        """The metrics that are kept of an evaluation."""
        if self.evaluation is None:
            return ()
        return self.evaluation.metrics or tuple(sorted({gate.metric for gate in self.gates}))

    @property
    def unreviewed(self) -> bool:
        """Whether versions would be released without a review although the card tells of a high risk."""
        return self.release == "automatic" and self.card.get("riskClass") == "high"

    @property
    def path(self) -> str:
        """The manifest's path."""
        return f"{self.folder}/model.yaml"


def _gate(value: Mapping[str, Any]) -> Gate:
    return Gate(
        metric=value["metric"],
        goal=value.get("goal", "maximize"),
        min=value.get("min"),
        max=value.get("max"),
        reference=value.get("notWorseThan"),
        tolerance=value.get("tolerance", 0.0),
        slice=value.get("slice"),
    )


def _evaluation(value: Mapping[str, Any]) -> Evaluation:
    inputs = {
        name: DataInput(
            name, source.get("type", "uri_folder"), source["datastore"], source["path"], source["digest"]
        )
        for name, source in value["inputs"].items()
    }
    environment = value.get("environment")
    return Evaluation(
        code=value["code"],
        command=value["command"],
        data=inputs,
        metrics=tuple(value.get("metrics", ())),
        slices=tuple(value.get("slices", ())),
        environment=Environment(**environment) if environment is not None else None,
    )
