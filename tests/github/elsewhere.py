"""Repositories whose workflows are edgetrain's from another repository, called or used as actions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgetrain.scaffold import site as scaffold
from tests.github.site import PAT, REPOSITORY, GithubSite, own_files
from tests.scaffold.samples import GITHUB

EDGETRAIN = "hosp/edgetrain"


class Elsewhere(GithubSite):
    """A repository with manifests and workflows of its own; edgetrain lies in another one."""

    def __init__(self, folder: Path) -> None:
        self.copy = folder / "edgetrain"
        super().__init__(folder)

    def make(self) -> None:
        self.server.create_repository(EDGETRAIN, private=False)
        self.sha = self.server.commit(EDGETRAIN, "main", own_files(), "edgetrain", by=PAT)
        for path, data in own_files().items():
            file = self.copy / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        self.driver["actions"] = {f"{EDGETRAIN}@{self.sha}": self.copy}
        super().make()

    def files(self) -> dict[str, Any]:
        return {f".github/workflows/{name}.yml": text for name, text in self.workflows().items()}

    def workflows(self) -> dict[str, str]:
        """Their texts, by name."""
        raise NotImplementedError


class FromInit(Elsewhere):
    """One with the workflows that `edgetrain init` writes."""

    def workflows(self) -> dict[str, str]:
        made = scaffold.files(
            replace(GITHUB, site="here", repository=REPOSITORY, edgetrain=f"{EDGETRAIN}@{self.sha}")
        )
        return {Path(path).stem: text for path, text in made.items() if path.startswith(".github/workflows/")}
