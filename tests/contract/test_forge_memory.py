"""The in-memory forge passes the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetrain.core.errors import Transient
from edgetrain.core.ports import Settings
from edgetrain.core.ports.forge import ReviewState
from edgetrain.providers.table import provider
from tests.memory_forge import MemoryForge, serve

from .forge import ForgeContract, Seen, World


class MemoryWorld(World):
    """Its people act by the forge's own methods."""

    def __init__(self) -> None:
        self.memory = MemoryForge()
        self.memory.askable = {"ada", "grace", "mary"}
        self.forge = self.memory

    def push(self, branch: str) -> str:
        return self.memory.push(branch)

    def open(self, branch: str, by: str, title: str = "A change", *, fork: bool = False) -> int:
        of = {"repository": f"{by}/models", "head": "f" * 40} if fork else {}
        return self.memory.open(branch, by, title, **of)

    def open_changing(self, added: str, old: str, new: str) -> int:
        self.memory.push("changing")
        number = self.memory.open("changing")
        self.memory.files[number] = {added, old, new}
        return number

    def review(self, number: int, by: str, state: ReviewState = "approved") -> None:
        self.memory.review(number, by, state)

    def merge(self, number: int, by: str) -> str:
        return self.memory.merge(number, by)

    def shut(self, number: int, by: str) -> None:
        self.memory.shut(number, by)

    def say(self, number: int, by: str, body: str) -> None:
        self.memory.say(number, by, body)

    def report(self, title: str, by: str, body: str) -> int:
        return self.memory.report(title, by, body)

    def check(self, commit: str, name: str, conclusion: str) -> None:
        self.memory.check(commit, name, conclusion)

    def run(self, head: str, branch: str) -> int:
        return self.memory.run(head=head, branch=branch)

    def upload(self, run: int, name: str, data: bytes) -> None:
        self.memory.upload(run, name, data)

    def comments(self, number: int) -> list[str]:
        return [one.body for one in self.memory.comments[number]]

    def issue(self, number: int) -> Seen:
        found = self.memory.issues[number]
        return Seen(
            found.open, found.title, found.text if found.account == self.memory.us else found.body, found.labels
        )

    def proposal(self, number: int) -> tuple[str, set[str], set[str]]:
        found = self.memory.details[number]
        return found.body, found.labels, found.reviewers


class TestMemoryForge(ForgeContract):
    @pytest.fixture
    def world(self) -> MemoryWorld:
        return MemoryWorld()


def test_the_table_gives_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forge = serve(monkeypatch, MemoryForge("hosp/other"))
    settings = Settings("forge", {"type": "github", "repository": "hosp/other"}, tmp_path)
    assert provider("forge", "github", settings) is forge


def test_a_fault_comes_once() -> None:
    forge = MemoryForge()
    forge.fail("checks", Transient("busy"))
    with pytest.raises(Transient):
        forge.checks("0" * 40)
    assert forge.checks("0" * 40) == ()
