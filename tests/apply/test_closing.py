"""An open proposal whose run is no candidate any more: closed with a word on why, and back when it is one again."""

from __future__ import annotations

from html import unescape
from pathlib import Path

import pytest

from edgetrain.core.errors import Transient
from edgetrain.core.plan import Operation
from edgetrain.reconcile.audit import audit
from edgetrain.reconcile.main_branch import MainBranch
from edgetrain.reconcile.models import log
from edgetrain.reconcile.period import period
from edgetrain.reconcile.runs import propose_again
from edgetrain.reconcile.verify import verify
from edgetrain.render.models import log_text
from tests.apply.forge_site import ForgeSite, forge_site
from tests.apply.site import SmallSite

BRANCH = "edgetrain/proposal/mean-1"


def ask(site: SmallSite, least: str) -> None:
    """Merge another bound of the gate: the run has 0.5."""
    site.sync()
    text = (site.clone / "models/mean/model.yaml").read_text()
    old = text.partition("min: ")[2].partition(",")[0]
    site.edit("models/mean/model.yaml", f"min: {old}", f"min: {least}")
    site.push(f"Ask for {least}")


def open_pulls(site: ForgeSite) -> list[int]:
    return [pull.number for pull in site.forge.open_pull_requests(BRANCH)]


def recorded_pulls(site: SmallSite) -> list[object]:
    """The pull requests that the proposals' records name, in their order."""
    found = sorted((path, data) for path, data in site.records().items() if data["kind"] == "ProposalRecord")
    return [data["pullRequest"] for _, data in sorted(found, key=lambda pair: ".again-" in pair[0])]


def closing(site: SmallSite) -> list[object]:
    """What each judgement since the training closes, in their order."""
    found = sorted((path, data) for path, data in site.records().items() if data["kind"] == "EvaluationRecord")
    return [data.get("closes") for _, data in found]


def test_a_pull_request_is_closed_and_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = forge_site(tmp_path / "site", monkeypatch)
    site.apply()
    [first] = open_pulls(site)

    ask(site, "0.9")
    site.forge.fail("close", Transient("the forge is down", fix="apply again"))
    done = site.apply()
    assert [(one.change, one.fix) for one in done.results if not one.good] == [("closing/mean@1", "apply again")]
    assert open_pulls(site) == [first]
    done = site.apply()
    assert [change.operation for change in done.plan.changes] == [Operation.CLOSE]
    assert (done.good, open_pulls(site), closing(site)) == (True, [], [BRANCH])
    [comment] = site.forge.comments[first]
    said = unescape(comment.body)
    assert "is <code>not_better</code> now" in said
    assert "score 0.5 does not hold min (0.9)" in said
    assert "edgetrain propose mean-" in said
    assert site.apply().results == ()

    # A later change of the gates brings it back, as a version that may be merged.
    ask(site, "0.2")
    for time in (1, 2):  # opened; and it has its record, but the verdict has none
        site.die_at("record", time)
    assert site.apply().good
    [second] = open_pulls(site)
    assert second > first
    assert recorded_pulls(site) == [first, second]
    site.merge(second)
    assert site.apply().good
    assert [path for path in site.records() if ".release-" in path] == ["models/mean/versions/1.release-1.json"]
    # Whoever reads log or audit sees both, and which one was merged.
    site.sync()
    said = log_text(*log(MainBranch(site.clone), "mean"))
    places = [said.index(f"pull request #{number}") for number in (first, second)]
    assert places == sorted(places)
    told = {event.kind: event for event in period(site.clone, None, None).events}
    assert told["proposed"].what.endswith(f", pull request #{second}")
    for hand in (told["released"].hand, audit(site.clone, "mean@1").approved):
        assert hand is not None and hand.pull_request == f"#{second}"
    assert verify(site.clone, None).holds
    assert site.apply().results == ()


def test_a_verdict_waits_for_a_forge_that_can_not_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would not say what it closes, and nothing would open that again."""
    site = forge_site(tmp_path / "site", monkeypatch)
    site.apply()
    away = Transient("the forge is down", fix="apply again")
    for least, closes in (("0.9", [BRANCH]), ("0.2", [BRANCH, None])):
        ask(site, least)
        before = site.records(), open_pulls(site)
        site.forge.fail("open_pull_requests", *[away] * 100)
        done = site.apply()
        site.forge.recover()
        assert {(one.operation, one.fix) for one in done.results} == {("evaluate", "apply again")}
        assert (site.records(), open_pulls(site)) == before
        # The same end as if it had been there all the time.
        assert site.apply().good
        assert closing(site) == closes
        assert len(open_pulls(site)) == (least == "0.2")
    assert site.apply().results == ()


def test_what_people_closed_stays_closed_whatever_the_gates_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = forge_site(tmp_path / "site", monkeypatch)
    site.apply()
    [number] = open_pulls(site)
    site.forge.shut(number)
    for least in ("0.9", "0.2"):
        ask(site, least)
        assert site.apply().good
    assert (open_pulls(site), closing(site), recorded_pulls(site)) == ([], [None, None], [number])
    # Asked for by hand, it is a pull request of its own, and has a record.
    [run] = [path for path, data in site.records().items() if data["kind"] == "RunRecord"]
    propose_again(site.clone, f"mean-{run.rpartition('/')[2].removesuffix('.json')}", lambda event: None)
    [again] = open_pulls(site)
    assert recorded_pulls(site) == [number, again]
    site.sync()
    assert verify(site.clone, None).holds


def test_without_a_forge_the_branch_goes_and_comes_back(tmp_path: Path) -> None:
    site = SmallSite(tmp_path / "site").make()
    site.apply()
    assert BRANCH in site.branches()
    for least, there in (("0.9", False), ("0.8", False), ("0.2", True)):
        ask(site, least)
        done = site.apply()
        assert done.good
        assert (BRANCH in site.branches()) is there
        assert site.apply().results == ()
    assert closing(site) == [BRANCH, BRANCH, None]
    site.merge_proposal(1)
    assert site.apply().good
