"""The small site with a forge in memory: people open, review and merge pull requests there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apply.site import SmallSite
from tests.memory_forge import MemoryForge, block, serve


class ForgeSite(SmallSite):
    """A small site that declares a forge whose branches are the remote's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.forge = MemoryForge(remote=self.remote)

    def make(self) -> ForgeSite:
        """Create everything; the first commit comes without a pull request."""
        super().make()
        self.write("edgetrain.yaml", (self.clone / "edgetrain.yaml").read_text() + block(self.forge))
        self.push("Declare the forge")
        return self

    def request(self, branch: str, message: str = "A change", by: str = "ada") -> int:
        """Somebody proposes what was changed in the clone; the pull request's number."""
        self._git("checkout", "--quiet", "-b", branch)
        self._git("add", "--all")
        self._git("commit", "--quiet", "-m", message)
        self._git("push", "--quiet", "origin", branch)
        number = self.forge.open(branch, by, message)
        self.sync()
        return number

    def merge(self, number: int, *approvers: str) -> str:
        """The approvers say yes and the pull request is merged; the commit on main."""
        for login in approvers:
            self.forge.review(number, login)
        commit = self.forge.merge(number)
        self.sync()
        return commit

    def trailers(self, path: str) -> dict[str, list[str]]:
        """The trailers of the commit that brought the path to main."""
        self._git("fetch", "--quiet", "origin")
        form = "--format=%(trailers:only,unfold)"
        found: dict[str, list[str]] = {}
        for line in self._git("log", "-1", form, "origin/main", "--", path).splitlines():
            key, _, value = line.partition(": ")
            if key:
                found.setdefault(key, []).append(value)
        return found

    def only(self, kind: str) -> tuple[str, dict[str, object]]:
        """The one record of the kind: path and contents."""
        ((path, data),) = ((p, d) for p, d in self.records().items() if d["kind"] == kind)
        return path, data


def forge_site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ForgeSite:
    """A new site whose forge the table of providers gives."""
    site = ForgeSite(folder)
    serve(monkeypatch, site.forge)
    return site.make()
