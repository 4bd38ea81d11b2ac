"""The kinds of manifest: one frozen dataclass a file, made from a document that its schema has passed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgetrain.core.document import Document
from edgetrain.core.kinds.compute import ComputeTarget
from edgetrain.core.kinds.configuration import Configuration
from edgetrain.core.kinds.experiment import Experiment
from edgetrain.core.kinds.model import Model
from edgetrain.core.kinds.version import ModelVersion

__all__ = [
    "KINDS",
    "ComputeTarget",
    "Configuration",
    "Experiment",
    "Kind",
    "Manifest",
    "Model",
    "ModelVersion",
    "kind_at",
    "parse",
]

Manifest = ComputeTarget | Configuration | Experiment | Model | ModelVersion


@dataclass(frozen=True)
class Kind:
    """A kind's name, where its manifests lie, and the class that holds one."""

    name: str
    place: re.Pattern[str]
    type: type[Manifest]

    @property
    def lower(self) -> str:
        """The name as `edgetrain schema` takes it."""
        return self.name.lower()


_NAME = r"[^/]+"
KINDS: tuple[Kind, ...] = (
    Kind("Configuration", re.compile(r"edgetrain\.yaml"), Configuration),
    Kind("ComputeTarget", re.compile(rf"compute/(?P<name>{_NAME})\.yaml"), ComputeTarget),
    Kind("Experiment", re.compile(rf"experiments/(?P<name>{_NAME})/experiment\.yaml"), Experiment),
    Kind("Model", re.compile(rf"models/(?P<name>{_NAME})/model\.yaml"), Model),
    Kind(
        "ModelVersion",
        re.compile(rf"models/(?P<model>{_NAME})/versions/(?P<number>{_NAME})\.yaml"),
        ModelVersion,
    ),
)


def kind_at(path: str) -> Kind | None:
    """The kind that a manifest at this path must have; None if no manifest lies there."""
    if not path.endswith(".yaml"):
        return None
    return next((kind for kind in KINDS if kind.place.fullmatch(path)), None)


def parse(document: Document, kind: Kind) -> Manifest:
    """The manifest's value. The document must have passed the kind's schema."""
    return kind.type.from_document(document)
