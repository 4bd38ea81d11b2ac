"""`edgetrain verify --forge`: what records keep of pull requests, held against the forge."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.digest import parse_canonical
from edgetrain.core.errors import Denied, Rejected, Transient, UsageError
from edgetrain.core.ports import Account, CheckStatus
from edgetrain.core.record import serialise
from edgetrain.reconcile.verify import verify
from edgetrain.render.verify import Verification, verify_json, verify_text
from tests import memory_forge
from tests.apply.site import SmallSite
from tests.cli.command import edgetrain
from tests.memory_forge import MemoryForge

FIRST = 1  # the pull request that proposed the experiment


class Reviewed:
    """A site whose experiment and version came by pull requests, and the forge that has them."""

    def __init__(self, folder: Path) -> None:
        self.site = SmallSite(folder).make()
        self.forge = MemoryForge(remote=self.site.remote)

    def build(self) -> None:
        site, forge = self.site, self.forge
        text = (site.clone / "edgetrain.yaml").read_text()
        site.write("edgetrain.yaml", text + memory_forge.block(forge))
        site.push("Declare the forge")
        site._git("checkout", "--quiet", "-b", "shift")
        site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4")
        site._git("commit", "--quiet", "-am", "Shift less")
        site._git("push", "--quiet", "origin", "shift")
        self.merged(forge.open("shift", "dana"))
        site.sync()
        assert site.apply().good
        (proposal,) = forge.open_pull_requests("edgetrain/proposal/")
        self.merged(proposal.number)
        site.sync()
        assert site.apply().good
        site.sync()

    def merged(self, number: int) -> None:
        forge = self.forge
        head = forge.pull_request(number).head
        forge.check(head, "edgetrain", "success")
        forge.check(head, "slow", "")
        forge.review(number, "ravi")
        forge.merge(number, by="grace", method="squash")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Reviewed:
    made = Reviewed(tmp_path_factory.mktemp("verify-forge") / "a site")
    with pytest.MonkeyPatch.context() as patch:
        memory_forge.serve(patch, made.forge)
        made.build()
    return made


@pytest.fixture
def reviewed(built: Reviewed, monkeypatch: pytest.MonkeyPatch) -> Reviewed:
    """The same, with a forge that the test may alter."""
    mine = copy.copy(built)
    mine.forge = memory_forge.serve(monkeypatch, copy.deepcopy(built.forge))
    mine.forge.calls.clear()
    return mine


def look(reviewed: Reviewed, text: str | None = None) -> Verification:
    return verify(reviewed.site.clone, text, forge=True)


def told(found: Verification, status: CheckStatus) -> list[str]:
    parts = (part for part in found.parts if part.kind in ("pull request", "forge"))
    return [check.message for part in parts for check in part.checks if check.status is status]


def test_what_was_recorded_is_what_the_forge_tells(reviewed: Reviewed) -> None:
    found = look(reviewed)
    assert found.holds
    titles = [part.title for part in found.parts if part.kind == "pull request"]
    assert titles == ["pull request hosp/models#1", "pull request hosp/models#2"]
    assert told(found, CheckStatus.WARN) == []
    assert any("mean/runs/" in line and "and 1 more" in line for line in told(found, CheckStatus.PASS))
    assert "and compared with the forge's pull requests" in verify_text(found)
    assert '"forge": true' in verify_json(found)
    assert [part.title for part in look(reviewed, "mean@1").parts if part.kind == "pull request"] == titles
    reviewed.forge.calls.clear()
    verify(reviewed.site.clone, None)
    assert reviewed.forge.calls == [], "unasked, nobody asks"


def pull(reviewed: Reviewed, **changes: Any) -> None:
    pulls = reviewed.forge.pulls
    pulls[FIRST] = replace(pulls[FIRST], **changes)


def approval(reviewed: Reviewed, **changes: Any) -> None:
    reviews = reviewed.forge._reviews[FIRST]
    reviews[0] = replace(reviews[0], **changes)


def check(reviewed: Reviewed, name: str, end: str) -> None:
    reviewed.forge.check(reviewed.forge.pulls[FIRST].head, name, end)


WRONG: dict[str, tuple[Callable[[Reviewed], object], str]] = {
    "never merged": (lambda r: pull(r, merged=None), "was never merged"),
    "another proposer": (lambda r: pull(r, author=Account(404, "dana")), "dana (account 404) proposed it"),
    "another merger": (lambda r: pull(r, merged_by=Account(404, "mallory")), "mallory (account 404) merged it"),
    "an approval that was taken back": (lambda r: approval(r, state="dismissed"), "the approval of ravi"),
    "an approval of somebody else": (lambda r: approval(r, account=Account(404, "ravi")), "does not stand there"),
    "an approval of another commit": (lambda r: approval(r, commit="f" * 40), "does not stand there"),
    "an approval that was left out": (
        lambda r: r.forge.review(FIRST, "mia", time="2026-10-01T00:00:00Z"),
        "stands there and is not recorded",
    ),
    "a check that failed": (
        lambda r: check(r, "edgetrain", "failure"),
        "check edgetrain is failure, recorded is success",
    ),
    "a failed check that was left out": (
        lambda r: check(r, "tools", "failure"),
        "check tools is failure, and is not recorded",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_differs_does_not_hold(reviewed: Reviewed, name: str) -> None:
    change, words = WRONG[name]
    change(reviewed)
    found = look(reviewed)
    assert not found.holds
    failed = told(found, CheckStatus.FAIL)
    assert any(words in line for line in failed), failed
    assert all("experiments/mean/runs/" in line for line in failed), "of the other pull request all holds"


def test_another_head_was_merged(reviewed: Reviewed) -> None:
    pull(reviewed, head="e" * 40)
    assert any("head eeeeeeeeeeee was merged" in line for line in told(look(reviewed), CheckStatus.FAIL))


def test_a_commit_of_another_pull_request(reviewed: Reviewed) -> None:
    pull(reviewed, merged="d" * 40)
    assert look(reviewed).holds, "it is one of those that a rebase brought"
    reviewed.forge.details[FIRST].commits = set()
    assert any("did not bring" in line for line in told(look(reviewed), CheckStatus.FAIL))
    reviewed.forge.fail("pull_requests_of", Rejected("no such commit"))
    assert any("did not bring" in line for line in told(look(reviewed), CheckStatus.FAIL))


def test_what_came_after_the_merge_decides_nothing(reviewed: Reviewed) -> None:
    forge = reviewed.forge
    forge.review(FIRST, "late", time="2050-01-01T00:00:00Z")
    forge.review(FIRST, "ravi", "changes_requested", time="2050-01-02T00:00:00Z")
    check(reviewed, "slow", "failure")
    check(reviewed, "later", "success")
    pull(reviewed, author=replace(forge.pulls[FIRST].author, login="dana-renamed"))
    found = look(reviewed)
    assert told(found, CheckStatus.FAIL) == []
    assert found.holds


def test_a_record_that_counts_what_does_not_count(reviewed: Reviewed, tmp_path: Path) -> None:
    copied = SmallSite(reviewed.site.second_clone(tmp_path / "copy"))
    (path,) = (copied.clone / "experiments/mean/runs").glob("*.json")
    record = parse_canonical(path.read_bytes())
    kept = record["provenance"]["review"]
    kept["proposer"]["id"] = kept["approvals"][0]["id"]
    path.write_bytes(serialise(record))
    copied._git("commit", "--quiet", "--all", "--amend", "--no-edit")
    copied._git("remote", "remove", "origin")
    found = verify(copied.clone, None)
    failed = [check for part in found.parts for check in part.checks if check.status is CheckStatus.FAIL]
    assert "review" in {check.name for check in failed}
    assert any("counts and names the approvals that count" in check.message for check in failed)


def test_what_is_not_visible_is_a_warning(reviewed: Reviewed) -> None:
    del reviewed.forge.pulls[FIRST]
    found = look(reviewed)
    assert found.holds
    (line,) = told(found, CheckStatus.WARN)
    assert "shows no pull request 1" in line


def test_checks_that_the_forge_keeps_no_more_are_a_warning(reviewed: Reviewed) -> None:
    reviewed.forge._checks.clear()
    found = look(reviewed)
    assert found.holds
    assert all("keeps no checks" in line for line in told(found, CheckStatus.WARN))
    assert len(told(found, CheckStatus.WARN)) == 2


@pytest.mark.parametrize("error", [Transient("it does not answer"), Denied("no credential here", fix="give one")])
def test_a_forge_that_is_away_is_a_warning(reviewed: Reviewed, error: Exception) -> None:
    reviewed.forge.fail("pull_request", error)
    found = look(reviewed)
    assert found.holds
    (line,) = told(found, CheckStatus.WARN)
    assert "could not be asked" in line
    assert reviewed.forge.calls == ["pull_request"], "asked once"


def test_records_of_another_forge_are_a_warning(reviewed: Reviewed) -> None:
    reviewed.forge._host = "forge.example"
    found = look(reviewed)
    assert found.holds
    assert all("not the forge of now" in line for line in told(found, CheckStatus.WARN))


def test_without_a_forge(tmp_path: Path) -> None:
    site = SmallSite(tmp_path / "a site").make()
    with pytest.raises(UsageError, match="no forge to compare with"):
        verify(site.clone, None, forge=True)
    ended = edgetrain("verify", "--forge", cwd=site.clone)
    assert ended.code == 2
    assert "spec.forge" in ended.err
