"""Model: what a name stands for, the gates to it, its channels and its withdrawn versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgetrain.core.document import Document
from edgetrain.core.kinds.common import Metadata


@dataclass(frozen=True)
class Gate:
    """One condition on one metric. `reference` is the channel of `notWorseThan`."""

    metric: str
    goal: str = "maximize"
    min: float | None = None
    max: float | None = None
    reference: str | None = None
    tolerance: float = 0.0
    slice: str | None = None


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
    evaluation: Mapping[str, Any] | None
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
            evaluation=spec.get("evaluation"),
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
    def unreviewed(self) -> bool:
        """Whether versions would be released without a review although the card tells of a high risk."""
        return self.release == "automatic" and self.card.get("riskClass") == "high"

    @property
    def path(self) -> str:
        """The manifest's path."""
        return f"models/{self.metadata.name}/model.yaml"


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
