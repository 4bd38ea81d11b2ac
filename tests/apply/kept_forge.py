"""A forge in memory that a file keeps, so that one process can be killed and the next goes on with it."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from edgetrain.core.ports import PullRequest
from edgetrain.providers.table import PROVIDERS, Row
from tests import memory_forge
from tests.apply.forge_site import ForgeSite
from tests.memory_forge import FORGES, MemoryForge

KEPT = ("pulls", "details", "_accounts", "_reviews", "us")


class KeptForge(MemoryForge):
    """Written to its file after each change that apply makes, and when it is told to."""

    def __init__(self, file: Path, remote: Path) -> None:
        super().__init__(remote=remote)
        self._file = file
        if file.exists():
            state = pickle.loads(file.read_bytes())
            for name in KEPT:
                setattr(self, name, state[name])
            self.comments.update(state["comments"])
            self._numbers = itertools.count(max(self.pulls, default=0) + 1)
            last = max((one.id for found in self.comments.values() for one in found), default=1000)
            self._ids = itertools.count(last + 1)

    def keep(self) -> None:
        """Write it down."""
        state: dict[str, Any] = {name: getattr(self, name) for name in KEPT} | {"comments": dict(self.comments)}
        self._file.write_bytes(pickle.dumps(state))

    def propose(
        self,
        branch: str,
        title: str,
        body: str,
        reviewers: Collection[str] = (),
        labels: Collection[str] = (),
    ) -> PullRequest:
        try:
            return super().propose(branch, title, body, reviewers, labels)
        finally:
            self.keep()

    def close(self, number: int) -> None:
        super().close(number)
        self.keep()

    def comment(self, number: int, mark: str, parts: Sequence[str]) -> None:
        super().comment(number, mark, parts)
        self.keep()


class KeptSite(ForgeSite):
    """A site whose first training was asked for in a pull request, and whose forge outlives its process."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.forge = KeptForge(folder / "forge.pickle", self.remote)

    def make(self) -> KeptSite:
        """Create everything, and merge the pull request that asks for a training."""
        super().make()
        self.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4")
        self.merge(self.request("ada/shift", "Shift by 0.4"), "grace")
        self.forge.keep()
        return self

    def again(self) -> KeptSite:
        """The same site with the forge as another process left it."""
        return KeptSite(self.clone.parent)

    def merge_proposal(self, number: int, production: int | None = None) -> None:
        """Merge the proposal's pull request, as people do on the forge, then move the channel."""
        (pull,) = self.forge.open_pull_requests(f"edgetrain/proposal/mean-{number}")
        self.merge(pull.number, "grace")
        self.forge.keep()
        if production is not None:
            self.point(production)
            self.push(f"Production is {production}")
        self._git("push", "--quiet", "origin", "--delete", pull.branch)


def serve(site: KeptSite) -> Callable[[], None]:
    """Let this process's table of providers give the site's forge; answers what takes that back."""
    before = PROVIDERS["forge", "github"]
    FORGES[site.forge.repository] = site.forge
    PROVIDERS["forge", "github"] = Row(f"{memory_forge.__name__}:made")

    def restore() -> None:
        PROVIDERS["forge", "github"] = before
        FORGES.pop(site.forge.repository, None)

    return restore
