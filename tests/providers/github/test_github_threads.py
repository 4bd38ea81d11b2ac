"""Our comments and issues when things went wrong before: lost answers, two at once, old ones, limits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgetrain.core.errors import Denied, Rejected
from edgetrain.providers.github.marks import LONGEST, mark_of, marked, same, unmarked
from testbed.github import GithubServer

from .hub import NAME, Site

US = "edgetrain[bot]"


@pytest.fixture
def site() -> Iterator[Site]:
    with GithubServer() as server:
        made = Site(server)
        server.commit(NAME, "change", {"a.txt": "a"}, by="ada")
        server.grant(NAME, "ada", "write")
        server.open_pull(NAME, "change", by="ada")
        yield made
        assert server.violations == []


def texts(site: Site, number: int = 1) -> list[str]:
    """The comments without marks."""
    return [unmarked(one["body"]) for one in site.server.comments(NAME, number)]


@pytest.mark.parametrize("reset", [True, False])
def test_a_comment_whose_answer_is_lost_is_there_once(site: Site, reset: bool) -> None:
    site.server.faults.add(r"POST .*/comments", reset=reset, status=0 if reset else 502, after=True)
    site.forge().comment(1, "plan", ["one", "two"])
    assert texts(site) == ["one", "two"]


def test_a_proposal_whose_answer_is_lost_is_there_once(site: Site) -> None:
    site.server.commit(NAME, "edgetrain/propose/cxr-4", {"b.txt": "b"}, by="ada")
    site.server.faults.add(r"POST .*/pulls$", reset=True, after=True)
    made = site.forge().propose("edgetrain/propose/cxr-4", "Version 4", "Metrics")
    assert [one.number for one in site.forge().open_pull_requests("edgetrain/")] == [made.number]


def test_an_issue_whose_answer_is_lost_is_there_once(site: Site) -> None:
    site.server.faults.add(r"POST .*/issues$", status=504, after=True)
    number = site.forge().issue("drift", "Drift", "one")
    assert [one["number"] for one in site.server.issues(NAME) if "pull_request" not in one] == [number]


def test_comments_that_two_runners_made_become_one(site: Site) -> None:
    site.server.say(NAME, 1, "hello", by="ada")
    for text in ("older", "newer"):
        site.server.say(NAME, 1, marked("plan", [text])[0], by=US)
    site.forge().comment(1, "plan", ["now"])
    assert texts(site) == ["hello", "now"]


def test_issues_that_two_runners_opened_become_one(site: Site) -> None:
    opened = [site.server.open_issue(NAME, "Drift", marked("drift", ["old"])[0], by=US) for _ in range(2)]
    kept = site.forge().issue("drift", "Drift", "now")
    assert kept in opened
    states = {one["number"]: one["state"] for one in site.server.issues(NAME) if one["number"] in opened}
    assert sorted(states.values()) == ["closed", "open"]
    assert states[kept] == "open"


def test_no_answer_is_lost_to_limits(site: Site) -> None:
    site.server.faults.primary(r"GET .*/comments", seconds=30)
    site.server.faults.add(
        r"POST .*/comments", status=403, headers={"Retry-After": "3"}, body={"message": "secondary"}
    )
    site.server.faults.add(r"access_tokens", status=500)
    site.forge().comment(1, "plan", ["one"])
    assert texts(site) == ["one"]


def test_nothing_is_asked_anew_that_did_not_change(site: Site) -> None:
    forge = site.forge()
    first = forge.pull_request(1)
    site.server.requests.clear()
    assert forge.pull_request(1) == first
    assert [one.status for one in site.server.requests] == [304]


def test_many_comments_of_others_are_read_past(site: Site) -> None:
    for number in range(150):
        site.server.say(NAME, 1, f"{number}", by="ada")
    forge = site.forge()
    forge.comment(1, "plan", ["one"])
    forge.comment(1, "plan", ["two"])
    assert texts(site)[150:] == ["two"]


def test_a_credential_that_may_not_comment_says_what_is_needed(site: Site) -> None:
    forge = site.by_token(
        site.server.job_token(NAME, {"contents": "read", "issues": "read", "pull_requests": "read"})
    )
    with pytest.raises(Denied) as caught:
        forge.comment(1, "plan", ["one"])
    assert caught.value.reason == "NoRight"
    assert "right" in caught.value.fix


# Marks


@pytest.mark.parametrize("mark", ["", "Plan", "a b", "a-->", "x" * 65, "9"])
def test_a_bad_mark_is_refused(mark: str) -> None:
    with pytest.raises(ValueError, match="not a mark"):
        marked(mark, ["text"])


def test_marks_are_read_back() -> None:
    one, two, three = marked("plan", ["a", "b", "c"])
    assert (mark_of(two), unmarked(two)) == ("plan", "b")
    assert "2/3" in two
    assert mark_of(f"x{one}") == ""
    assert unmarked(f"x{one}") == f"x{one}"
    assert unmarked(three.replace("\n", "\r\n")) == "c"


def test_the_mark_counts_for_the_length() -> None:
    room = LONGEST - len(marked("plan", [""])[0])
    assert len(marked("plan", ["x" * room])[0]) == LONGEST
    with pytest.raises(Rejected):
        marked("plan", ["x" * (room + 1)])


def test_line_ends_are_no_difference() -> None:
    assert same("a\r\nb\r\n", "a\nb")
    assert not same("a b", "a\nb")
    assert not same(None, "")
