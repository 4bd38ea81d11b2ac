"""What the client survives and refuses: limits, faults, pages, sizes, redirects, and answers that are none."""

from __future__ import annotations

import gzip
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from edgetrain.core.errors import Conflict, Denied, NotFound, ProviderError, Rejected, Transient
from edgetrain.providers.github.client import ATTEMPTS, KEPT, PAGES, PATIENCE

from .scripted import REPO, USER_TOKEN, Pauses, Reply, Request, Rule, Scripted, forge_at, with_token

RUN = f"{REPO}/actions/runs/5"
FOUND = {
    "id": 5,
    "path": ".github/workflows/pull-request.yml@refs/heads/main",
    "event": "pull_request",
    "head_sha": "a" * 40,
    "head_branch": "change",
    "head_repository": {"full_name": "hosp/models"},
    "conclusion": "success",
}
PULL = {
    "number": 3,
    "html_url": "https://github.com/hosp/models/pull/3",
    "title": "A change",
    "body": "Why",
    "state": "open",
    "merged_at": None,
    "merge_commit_sha": None,
    "head": {"sha": "a" * 40, "ref": "change", "repo": {"full_name": "hosp/models"}},
    "base": {"ref": "main"},
    "user": {"id": 1, "login": "ada", "type": "User"},
    "labels": [],
}


def at_first(times: int, reply: Reply, then: Reply, where: str = RUN) -> Rule:
    """Answer `reply` so many times, then `then`."""
    asked: list[Request] = []

    def rule(request: Request) -> Reply | None:
        if request.path.partition("?")[0] != where:
            return None
        asked.append(request)
        return reply if len(asked) <= times else then

    return rule


def fails(server: Scripted, call: Callable[[Any], Any] = lambda forge: forge.workflow_run(5)) -> ProviderError:
    """The error of a call by a given token, and that no secret is in it."""
    with pytest.raises(ProviderError) as caught:
        call(with_token(server.url))
    told = "".join(traceback.format_exception(caught.value)) + caught.value.fix + repr(vars(caught.value))
    assert USER_TOKEN not in told
    assert len(caught.value.message) < 1000
    return caught.value


# Limits and faults


@pytest.mark.parametrize(
    ("reply", "least", "most"),
    [
        (Reply(429, {"message": "slow down"}, {"Retry-After": "7"}), 7, 7),
        (Reply(403, {"message": "You have exceeded a secondary rate limit"}, {"Retry-After": "9"}), 9, 9),
        (Reply(403, {"message": "You have exceeded a secondary rate limit"}), 60, 60),
        (Reply(429, {"message": "Too many"}), 60, 60),
        (Reply(403, {"message": "You have triggered an abuse detection mechanism"}), 60, 60),
        (Reply(500, {"message": "Server Error"}), 0, 3),
        (Reply(502, b"<html>Bad Gateway</html>", {"content-type": "text/html"}), 0, 3),
        (Reply(503, {"message": "Unavailable"}, {"Retry-After": "5"}), 0, 3),
        (Reply(408), 0, 3),
        (Reply(reset=True), 0, 3),
        (Reply(body=FOUND, cut=30), 0, 3),
        (Reply(body=b'{"id": 5, "pa'), 0, 3),
    ],
)
def test_what_passes_is_waited_for(reply: Reply, least: float, most: float) -> None:
    pauses = Pauses()
    with Scripted(at_first(1, reply, Reply(body=FOUND))) as server:
        assert with_token(server.url, pauses=pauses).workflow_run(5).id == 5
    (pause,) = pauses.seconds
    assert least <= pause <= most


def test_a_used_up_limit_is_waited_for_by_the_forges_clock() -> None:
    headers = {
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "1000000090",
        "Date": "Sun, 09 Sep 2001 01:46:40 GMT",
    }
    pauses = Pauses()
    limited = Reply(403, {"message": "API rate limit exceeded"}, headers)
    with Scripted(at_first(1, limited, Reply(body=FOUND))) as server:
        with_token(server.url, pauses=pauses).workflow_run(5)
    assert pauses.seconds == [91]


def test_a_limit_that_lasts_too_long_is_told_at_once_with_its_end() -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + 3000)}
    with Scripted(at_first(99, Reply(429, {"message": "API rate limit exceeded"}, headers), Reply())) as server:
        error = fails(server)
        assert len(server.requests) == 1
    assert (type(error).__mro__[1], error.reason) == (Transient, "RateLimited")
    assert "UTC" in error.fix


def test_pauses_for_an_untold_limit_grow_and_end() -> None:
    pauses = Pauses()
    limited = Reply(403, {"message": "You have exceeded a secondary rate limit"})
    with Scripted(at_first(99, limited, Reply())) as server, pytest.raises(Transient):
        with_token(server.url, pauses=pauses).workflow_run(5)
    assert pauses.seconds == [60, 120]
    assert sum(pauses.seconds) <= PATIENCE


def test_patience_with_faults_ends() -> None:
    pauses = Pauses()
    with Scripted(at_first(99, Reply(503), Reply())) as server, pytest.raises(Transient) as caught:
        with_token(server.url, pauses=pauses).workflow_run(5)
    assert caught.value.reason == "ForgeBusy"
    assert 3 <= len(pauses.seconds) <= 10


def test_patience_is_not_multiplied_where_a_call_needs_others() -> None:
    """A token that can't be made is not asked for again by the call that needs it, nor by what needs the call."""
    for call in (lambda forge: forge.workflow_run(5), lambda forge: forge.comment(3, "plan", ["one"])):
        with Scripted(lambda _: Reply(502)) as server, pytest.raises(Transient):
            call(forge_at(server.url))
        assert len(server.requests) == ATTEMPTS


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, Rejected, "ForgeRefused"),
        (401, Denied, "LoginRefused"),
        (403, Denied, "NoRight"),
        (404, NotFound, "NotThere"),
        (409, Conflict, "ForgeConflict"),
        (410, NotFound, "NotThere"),
        (422, Rejected, "ForgeRefused"),
        (451, Rejected, "ForgeRefused"),
    ],
)
def test_what_stays_is_told_at_once(status: int, kind: type[ProviderError], reason: str) -> None:
    headers = {"x-accepted-github-permissions": "actions=read"}
    body = {"message": f"No, {USER_TOKEN}\n" + "x" * 5000, "errors": [{"code": "invalid", "field": "head"}, 3]}
    with Scripted(at_first(99, Reply(status, body, headers), Reply())) as server:
        error = fails(server)
        assert len(server.requests) == 1
    assert (type(error), error.reason) == (kind, reason)
    assert "No, ***" in error.message
    assert "\n" not in error.message
    assert error.fix
    assert ("actions=read" in error.fix) == (status == 403)


def test_nothing_is_sent_twice_that_may_have_been_done() -> None:
    """The first answer of each POST is lost; what it made is found, and nothing is made again."""
    pulls: list[dict[str, Any]] = []
    comments: list[dict[str, Any]] = []
    lost = {"pulls", "comments"}

    def rule(request: Request) -> Reply | None:
        kind = request.path.partition("?")[0].rpartition("/")[2]
        match request.method, request.path.partition("?")[0].removeprefix(REPO):
            case "GET", "/pulls":
                return Reply(body=pulls)
            case "GET", "/pulls/3":
                return Reply(body=PULL)
            case "POST", "/pulls":
                pulls.append(PULL)
            case "GET", "/issues/3/comments":
                return Reply(body=comments)
            case "POST", "/issues/3/comments":
                us = {"id": 99, "login": "edgetrain-app[bot]", "type": "Bot"}
                comments.append({"id": len(comments) + 1, "user": us, "body": request.body["body"]})
            case _:
                return None
        if kind in lost:
            lost.remove(kind)
            return Reply(reset=True) if kind == "pulls" else Reply(502)
        return Reply(201, {"id": len(comments)})

    with Scripted(rule) as server:
        forge = forge_at(server.url)
        assert forge.propose("change", "A change", "Why").number == 3
        forge.comment(3, "plan", ["one", "two"])
    assert len(server.asked("POST /repos/hosp/models/pulls")) == 1
    assert [one["body"].partition("\n")[2] for one in comments] == ["one", "two"]
    assert len(server.asked("POST /repos/hosp/models/issues/3/comments")) == 2


def test_what_is_only_limited_is_sent_again() -> None:
    asked: list[Request] = []

    def rule(request: Request) -> Reply | None:
        if request.path.startswith(f"{REPO}/issues/3/comments"):
            if request.method == "GET":
                return Reply(body=[])
            asked.append(request)
            return Reply(429, {}, {"Retry-After": "1"}) if len(asked) == 1 else Reply(201, {"id": 1})
        return None

    with Scripted(rule) as server:
        forge_at(server.url).comment(3, "plan", ["one"])
    assert len(asked) == 2


# ETags and pages


def test_what_did_not_change_is_not_sent_again() -> None:
    def rule(request: Request) -> Reply | None:
        if request.path != RUN:
            return None
        same = request.headers.get("if-none-match") == 'W/"1"'
        return Reply(304) if same else Reply(body=FOUND, headers={"ETag": 'W/"1"'})

    with Scripted(rule) as server:
        forge = with_token(server.url)
        first, second = forge.workflow_run(5), forge.workflow_run(5)
        server.rule = lambda _: Reply(body={**FOUND, "conclusion": "failure"}, headers={"ETag": 'W/"2"'})
        third = forge.workflow_run(5)
        server.rule = rule
    assert (first, second) == (second, first)
    assert third.conclusion == "failure"
    assert [one.headers.get("if-none-match") for one in server.requests] == [None, 'W/"1"', 'W/"1"']


def test_an_unasked_not_modified_is_no_answer() -> None:
    with Scripted(lambda _: Reply(304)) as server:
        assert fails(server).reason == "ForgeRefused"


def test_kept_answers_are_bounded() -> None:
    with Scripted(lambda one: Reply(body=FOUND, headers={"ETag": '"1"'})) as server:
        forge = with_token(server.url)
        for run in range(KEPT + 20):
            forge.workflow_run(run)
        assert len(forge.client._kept) == KEPT


def page_of(server: Scripted, number: int, last: int) -> Reply:
    """A page of pull requests, with a link to the next."""
    one = {**PULL, "number": number}
    more = f'<{server.url}{REPO}/pulls?page={number + 1}>; rel="next", <{server.url}/x>; rel="last"'
    return Reply(body=[one], headers={"Link": more} if number < last else {})


def test_all_pages_are_read() -> None:
    def rule(request: Request) -> Reply:
        return page_of(server, int(request.path.rpartition("page=")[2]) if "&" not in request.path else 1, 4)

    with Scripted(rule) as server:
        assert [one.number for one in with_token(server.url).open_pull_requests("")] == [1, 2, 3, 4]
    assert "per_page=100" in server.requests[0].path


def test_pages_without_end_are_refused() -> None:
    with Scripted() as server:
        server.rule = lambda _: page_of(server, 1, 99)
        error = fails(server, lambda forge: forge.open_pull_requests(""))
        assert len(server.requests) == PAGES
    assert error.reason == "TooMany"


def test_a_next_page_elsewhere_is_refused() -> None:
    with Scripted() as elsewhere, Scripted() as server:
        server.rule = lambda _: Reply(body=[PULL], headers={"Link": f'<{elsewhere.url}{REPO}/pulls>; rel="next"'})
        assert fails(server, lambda forge: forge.open_pull_requests("")).reason == "AnswerNotUnderstood"
        assert not elsewhere.requests


# Answers that are none


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"<html>Sign in</html>", headers={"content-type": "text/html"}),
        Reply(body=b"", headers={"content-type": "text/html"}),
        Reply(body=[FOUND]),
        Reply(body={}),
        Reply(body={**FOUND, "id": True}),
        Reply(body={**FOUND, "id": "5"}),
        Reply(body={**FOUND, "head_sha": "a" * 40 + "\n"}),
        Reply(body={**FOUND, "head_sha": "../../x"}),
        Reply(body={**FOUND, "event": "x" * 100}),
        Reply(body={**FOUND, "head_repository": [1]}),
        Reply(body=gzip.compress(b"{}"), headers={"content-encoding": "gzip"}),
    ],
)
def test_an_answer_that_is_not_githubs_is_refused(reply: Reply) -> None:
    with Scripted(at_first(99, reply, reply)) as server:
        assert fails(server).reason == "AnswerNotUnderstood"


def test_depth_and_numbers_without_bounds_break_nothing() -> None:
    for body in (b"[" * 200_000, b"1" * 5000, b'{"id": ' + b"9" * 4000 + b"}"):
        with Scripted(at_first(99, Reply(body=body), Reply())) as server:
            assert isinstance(fails(server), Transient | Rejected)


@pytest.mark.parametrize("entries", [[1], ["x"], [None], {"a": 1}, 3])
def test_a_list_of_other_things_is_refused(entries: Any) -> None:
    with Scripted(lambda _: Reply(body=entries)) as server:
        error = fails(server, lambda forge: forge.open_pull_requests(""))
    assert error.reason == "AnswerNotUnderstood"


@pytest.mark.parametrize(
    "broken",
    [
        {"user": {"id": 1, "login": "a b"}},
        {"user": {"id": 1, "login": "a\u202eb"}},
        {"html_url": "javascript:alert(1)"},
        {"html_url": "https://x/)[y](https://z"},
        {"head": None},
        {"head": {"sha": "main", "ref": "x", "repo": None}},
        {"number": -1},
        {"title": 3},
        {"state": "open", "merged_at": "2026-10-01T00:00:00Z", "merge_commit_sha": None},
    ],
)
def test_a_pull_request_that_is_none_is_refused(broken: dict[str, Any]) -> None:
    with Scripted(lambda _: Reply(body={**PULL, **broken})) as server:
        assert fails(server, lambda forge: forge.pull_request(3)).reason == "AnswerNotUnderstood"


def test_what_is_gone_is_told_as_gone() -> None:
    gone = {**PULL, "user": None, "head": {**PULL["head"], "repo": None}}  # type: ignore[dict-item]
    with Scripted(lambda _: Reply(body=gone)) as server:
        pull = with_token(server.url).pull_request(3)
    assert (pull.author.login, pull.repository) == ("ghost", "")


def test_an_answer_without_end_is_cut_off() -> None:
    with Scripted(lambda _: Reply(body=b" " * (17 * 2**20))) as server:
        assert fails(server).reason == "TooLarge"
