"""ModelVersion: one released, or proposed, version; it cites its run record and repeats its facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgetrain.core.document import Document
from edgetrain.core.kinds.common import Metadata


@dataclass(frozen=True)
class ModelVersion:
    """One version. `run` is the id of the cited run record's file: `<identity12>-<attempt>`."""

    metadata: Metadata
    document: Document = field(repr=False, compare=False)
    model: str
    number: int
    experiment: str
    run: str
    record: str
    spec: Mapping[str, Any]

    @classmethod
    def from_document(cls, document: Document) -> ModelVersion:
        """From a document that passed the schema."""
        spec = document.data["spec"]
        run = spec["run"]
        return cls(
            metadata=Metadata.parse(document.data["metadata"]),
            document=document,
            model=spec["model"],
            number=spec["version"],
            experiment=run["experiment"],
            run=f"{run['identity'].removeprefix('sha256:')[:12]}-{run['attempt']}",
            record=run["record"],
            spec=spec,
        )

    @property
    def id(self) -> str:
        """`<model>@<number>`."""
        return f"{self.model}@{self.number}"

    @property
    def run_path(self) -> str:
        """The path of the cited run record."""
        return f"experiments/{self.experiment}/runs/{self.run}.json"
