"""The session: opening, plain calls, pages, failures of every kind, tries that don't multiply, tokens that end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest

from azureml_emulator.faults import ALWAYS
from azureml_emulator.server import RunningEmulator
from edgetrain.core.errors import Conflict, Denied, NotFound, ProviderError, Rejected, Transient
from edgetrain.core.secret import Secret
from edgetrain.providers.azureml import process
from edgetrain.providers.azureml.auth import Token, Tokens
from edgetrain.providers.azureml.retries import ATTEMPTS, LONGEST_WAIT
from edgetrain.providers.azureml.session import Session, shared
from tests.contract.compute import until
from tests.providers.azureml.support import asked, begin, check, session, settings, sign_ins

pytestmark = pytest.mark.long(0.3)

MODELS = "/modelmanagement/v1.0{WS}/models"
RUNS = "/history/v1.0{WS}/experiments/none/runs:query"


def plain(one: Session) -> Any:
    """A list by a plain call."""
    return list(one.pages("models", MODELS))


def by_sdk(one: Session) -> Any:
    """The same list by azureml-core."""
    from azureml.core import Model

    return one.call(lambda: Model.list(one.workspace), "listing models")


WAYS = pytest.mark.parametrize("act", [plain, by_sdk])


def test_opens_the_workspace_by_the_sdk(workspace_emulator: RunningEmulator, tmp_path: Path, topology: str) -> None:
    one = session(workspace_emulator, tmp_path, topology)
    assert workspace_emulator.requests == []  # making it asks nothing
    assert one.workspace.name == workspace_emulator.emulator.options.workspace
    assert one.workspace is one.workspace
    assert one.document["name"] == one.workspace.name
    assert len(asked(workspace_emulator, "GET /subscriptions/")) == 2
    assert not [r for r in workspace_emulator.requests if r["path"].rstrip("/") == "/subscriptions"]
    assert sign_ins(workspace_emulator) == 1


@WAYS
def test_lists_alike(
    workspace_emulator: RunningEmulator, tmp_path: Path, topology: str, act: Callable[[Session], Any]
) -> None:
    one = session(workspace_emulator, tmp_path, topology)
    assert act(one) == []
    assert len(asked(workspace_emulator, "GET /modelmanagement/")) == 1


def test_one_session_for_the_same_settings(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    given = settings(workspace_emulator, tmp_path)
    assert shared(given) is shared(settings(workspace_emulator, tmp_path))
    assert shared(given) is not shared(settings(workspace_emulator, tmp_path / "other"))


def test_writes_as_it_is_told(workspace_emulator: RunningEmulator, tmp_path: Path, topology: str) -> None:
    one = session(workspace_emulator, tmp_path, topology)
    name = f"exp-{topology}"
    made = one.post("history", f"/history/v1.0{{WS}}/experiments/{name}")
    assert made["name"] == name
    one.patch("history", f"/history/v1.0{{WS}}/experimentids/{made['experimentId']}", {"tags": {"k": "v"}})
    assert one.get("history", f"/history/v1.0{one.scope}/experiments/{name}")["tags"]["k"] == "v"
    assert name in {found["name"] for found in one.pages("history", "/history/v1.0{WS}/experiments:query", json={})}


def test_follows_pages_of_both_kinds(workspace_emulator: RunningEmulator, tmp_path: Path, topology: str) -> None:
    one = session(workspace_emulator, tmp_path, topology)
    names = {f"page-{topology}-{number}" for number in range(5)}
    for name in names:
        one.post("history", f"/history/v1.0{{WS}}/experiments/{name}")
        asset = one.post("models", "/modelmanagement/v1.0{WS}/assets", {"name": name, "artifacts": []})
        body = {
            "name": name,
            "url": f"aml://asset/{asset['id']}",
            "mimeType": "application/x-python",
            "unpack": False,
        }
        one.post("models", MODELS, body)
    workspace_emulator.change(page_size=2)
    experiments = [found["name"] for found in one.pages("history", "/history/v1.0{WS}/experiments:query", json={})]
    models = [found["name"] for found in one.pages("models", MODELS)]
    for found in (experiments, models):
        assert len(found) == len(set(found))
        assert names <= set(found)
    with pytest.raises(Rejected, match="more than 3 items"):
        list(one.pages("models", MODELS, most=3))


def test_a_page_elsewhere_is_not_followed(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    one = session(workspace_emulator, tmp_path)
    one.base("models")
    workspace_emulator.emulator.log.clear()
    answer = {"value": [1], "nextLink": "https://models.azureml.ms.evil.test/?x=1"}
    from edgetrain.providers.azureml.web import Web

    class Answering(Web):
        def request(self, *given: Any) -> Any:
            return answer

    one._web = Answering(lambda: one.tokens.get(""), tuple)
    with pytest.raises(Rejected, match="elsewhere"):
        list(one.pages("models", MODELS))
    assert workspace_emulator.requests == []


FAULTS = [
    (401, Denied, "SignInRefused", 2),
    (403, Denied, "RightMissing", 1),
    (404, NotFound, "NotFound", 1),
    (409, Conflict, None, 1),
    (429, Transient, "Throttled", ATTEMPTS),
    (500, Transient, "ServiceFault", ATTEMPTS),
    (503, Transient, "ServiceFault", ATTEMPTS),
]


@WAYS
@pytest.mark.parametrize(("status", "kind", "reason", "requests"), FAULTS)
def test_a_failure_has_its_kind_and_tries_do_not_multiply(
    workspace_emulator: RunningEmulator,
    tmp_path: Path,
    act: Callable[[Session], Any],
    status: int,
    kind: type[ProviderError],
    reason: str | None,
    requests: int,
) -> None:
    one = session(workspace_emulator, tmp_path)
    act(one)
    workspace_emulator.emulator.log.clear()
    workspace_emulator.fault("GET /modelmanagement/", status, count=ALWAYS)
    with pytest.raises(kind) as caught:
        act(one)
    assert type(caught.value) is kind or issubclass(type(caught.value), kind)
    assert reason in {None, caught.value.reason}
    assert caught.value.fix
    assert len(asked(workspace_emulator, "GET /modelmanagement/")) == requests


@WAYS
def test_a_cut_connection_is_tried_again(
    workspace_emulator: RunningEmulator, tmp_path: Path, topology: str, act: Callable[[Session], Any]
) -> None:
    one = session(workspace_emulator, tmp_path, topology)
    act(one)
    workspace_emulator.emulator.log.clear()
    workspace_emulator.fault("GET /modelmanagement/", reset=True, count=ATTEMPTS - 1)
    assert act(one) is not None
    assert len(asked(workspace_emulator, "GET /modelmanagement/")) == ATTEMPTS
    workspace_emulator.fault("GET /modelmanagement/", reset=True, count=ALWAYS)
    with pytest.raises(Transient):
        act(one)
    assert len(asked(workspace_emulator, "GET /modelmanagement/")) == 2 * ATTEMPTS


@WAYS
@pytest.mark.parametrize("headers", [{"Retry-After": "7"}, {"retry-after-ms": "7000"}])
def test_waits_as_long_as_the_service_asks(
    workspace_emulator: RunningEmulator, tmp_path: Path, act: Callable[[Session], Any], headers: dict[str, str]
) -> None:
    waits: list[float] = []
    one = session(workspace_emulator, tmp_path, sleep=waits.append)
    act(one)
    workspace_emulator.fault("GET /modelmanagement/", 429, count=2, headers=headers)
    act(one)
    assert waits == [7.0, 7.0]


@pytest.mark.parametrize("status", [401, 429, 503])
def test_compute_keeps_to_the_same_rules(workspace_emulator: RunningEmulator, tmp_path: Path, status: int) -> None:
    """The SDK's compute calls put the answer into a text, and would wait 32 s whatever the service asks."""
    waits: list[float] = []
    one = session(workspace_emulator, tmp_path, sleep=waits.append)
    one.call(lambda: one.workspace.compute_targets, "listing compute")
    workspace_emulator.emulator.log.clear()
    workspace_emulator.fault("GET /rp/.*/computes", status, headers={"Retry-After": "7"})
    assert one.call(lambda: one.workspace.compute_targets, "listing compute") == {}
    assert len(asked(workspace_emulator, "GET /rp/")) == 2
    assert waits == ([] if status == 401 else [7.0])
    assert sign_ins(workspace_emulator) == (1 if status == 401 else 0)


def test_a_service_that_asks_for_too_much_patience_is_left(
    workspace_emulator: RunningEmulator, tmp_path: Path
) -> None:
    waits: list[float] = []
    one = session(workspace_emulator, tmp_path, sleep=waits.append)
    plain(one)
    workspace_emulator.fault("GET /modelmanagement/", 503, headers={"Retry-After": str(int(LONGEST_WAIT) + 1)})
    with pytest.raises(Transient):
        plain(one)
    assert waits == []


def test_an_exception_whose_text_fails(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    """The SDK's own, of an answer whose error has no `details`."""
    from azureml._restclient.exceptions import ServiceException
    from azureml.core import Experiment

    one = session(workspace_emulator, tmp_path)
    held = one.workspace
    body = {"error": {"code": "UserError", "message": "not with sig=abcdefg"}}
    workspace_emulator.fault("GET .*/experiments/odd", 409, count=2, body=body)
    with pytest.raises(ServiceException) as raw:
        Experiment(held, "odd")
    with pytest.raises(TypeError):
        str(raw.value)
    with pytest.raises(Conflict) as caught:
        one.call(lambda: Experiment(held, "odd"), "finding it")
    assert caught.value.reason == "UserError"
    assert caught.value.message == ("finding it: the service answered 409 UserError: not with sig=***")


def test_what_must_not_be_repeated_is_not(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    one = session(workspace_emulator, tmp_path)
    workspace_emulator.fault("POST /history/", 503, count=ALWAYS)
    with pytest.raises(Transient):
        one.post("history", "/history/v1.0{WS}/experiments/once", again=False)
    assert len(asked(workspace_emulator, "POST /history/")) == 1


def test_calls_inside_calls_do_not_multiply(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    one = session(workspace_emulator, tmp_path)
    workspace_emulator.fault("GET /subscriptions/", 503, count=ALWAYS)
    with pytest.raises(Transient):
        by_sdk(one)
    assert len(asked(workspace_emulator, "GET /subscriptions/")) == ATTEMPTS


def test_a_cloud_that_does_not_answer_is_asked_no_more_often(
    workspace_emulator: RunningEmulator, tmp_path: Path
) -> None:
    one = session(workspace_emulator, tmp_path, "B")
    workspace_emulator.fault("GET /metadata/", 503, count=ALWAYS)
    with pytest.raises(Transient):
        by_sdk(one)
    assert len(workspace_emulator.requests) == ATTEMPTS


def test_a_token_may_say_nothing_of_its_tenant(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    """As those of an ADFS may; the SDK's own classes would fail."""
    from azureml_emulator.tokens import Tokens as Issuer

    issuer = Issuer(workspace_emulator.emulator)
    told = jwt.decode(issuer.issue("owner", "arm"), options={"verify_signature": False})
    del told["tid"]
    one = session(workspace_emulator, tmp_path)
    one._made["tokens"] = Tokens(lambda audience: Token(Secret(issuer.sign(told)), 3600))
    assert by_sdk(one) is not None
    assert sign_ins(workspace_emulator) == 0


@WAYS
def test_a_token_refused_in_the_middle_is_replaced(
    workspace_emulator: RunningEmulator, tmp_path: Path, topology: str, act: Callable[[Session], Any]
) -> None:
    one = session(workspace_emulator, tmp_path, topology)
    act(one)
    assert sign_ins(workspace_emulator) == 1
    workspace_emulator.fault("GET /modelmanagement/", 401)
    act(one)
    assert sign_ins(workspace_emulator) == 2


@WAYS
def test_a_token_that_ended_is_replaced(
    workspace_emulator: RunningEmulator, tmp_path: Path, act: Callable[[Session], Any]
) -> None:
    """The emulator really refuses it: our clock stands still, so that the session thinks it good."""
    workspace_emulator.change(token_life=2)
    one = session(workspace_emulator, tmp_path, now=lambda: 0.0)
    act(one)
    first = one.tokens.get(one.cloud.audience).reveal()
    ends = jwt.decode(first, options={"verify_signature": False})["exp"]
    until(lambda: time.time() > ends + 1, "the token to end")
    workspace_emulator.change(token_life=3600)
    act(one)
    assert one.tokens.get(one.cloud.audience).reveal() != first
    assert sign_ins(workspace_emulator) == 2


def test_a_reader_may_not_write(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    reader = workspace_emulator.principal("reader")
    auth = {
        "type": "service-principal",
        "tenant": workspace_emulator.emulator.options.tenant,
        "clientId": reader["clientId"],
        "clientSecret": {"secret": "reader"},
    }
    one = session(workspace_emulator, tmp_path, auth=auth, secrets={"reader": reader["clientSecret"]})
    plain(one)
    with pytest.raises(Denied) as caught:
        one.post("history", "/history/v1.0{WS}/experiments/no")
    assert caught.value.reason == "RightMissing"


def test_a_workspace_that_is_not_there(workspace_emulator: RunningEmulator, tmp_path: Path, topology: str) -> None:
    given = settings(workspace_emulator, tmp_path, topology)
    other = Session(type(given)(**{**vars(given), "block": {**given.block, "name": "other"}}))
    for act in (lambda: other.document, lambda: other.workspace):
        with pytest.raises(NotFound):
            act()


def test_many_threads_sign_in_and_open_once(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    one = session(workspace_emulator, tmp_path)
    gate = threading.Barrier(8)

    def act(number: int) -> str:
        gate.wait()
        return str(one.workspace.name) if number % 2 else str(plain(one))

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(act, range(8)))) == 8
    assert sign_ins(workspace_emulator) == 1


def test_another_emulator_in_the_same_process(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    """Each session brings its own proxy and authorities, whichever was used last."""
    with begin(tmp_path / "second") as second:
        here = session(workspace_emulator, tmp_path / "a", "A")
        there = session(second, tmp_path / "b", "B")
        for _ in range(2):
            plain(here)
            assert plain(there) == []
            assert by_sdk(there) == []
        assert len(asked(second, "GET /modelmanagement/")) == 4
        assert len(asked(workspace_emulator, "GET /modelmanagement/")) == 2
        check(second)


def test_nothing_secret_is_logged(
    workspace_emulator: RunningEmulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    one = session(workspace_emulator, tmp_path)
    by_sdk(one)
    plain(one)
    workspace_emulator.fault("GET /modelmanagement/", 500, count=ALWAYS, body={"error": {"message": "sig=abcdefg"}})
    for act in (plain, by_sdk):
        with pytest.raises(Transient) as caught:
            act(one)
        assert "abcdefg" not in caught.value.message
    token = one.tokens.get(one.cloud.audience).reveal()
    for secret in (token, workspace_emulator.principal("owner")["clientSecret"], "abcdefg"):
        assert secret not in caplog.text
    assert "eyJ" not in caplog.text


def test_the_registry_token_goes_to_the_clouds_own_registries(
    workspace_emulator: RunningEmulator, tmp_path: Path, topology: str
) -> None:
    one = session(workspace_emulator, tmp_path, topology)
    mine = "emuacr.azurecr.io" if topology == "A" else f"localhost:{workspace_emulator.port}"
    assert one.registry_token(mine).reveal().startswith("eyJ")
    for host in ("registry.example", "azurecr.io.evil.test", "evilazurecr.io", "localhost.evil.test:443"):
        with pytest.raises(Rejected) as caught:
            one.registry_token(host)
        assert caught.value.reason == "RegistryElsewhere"


def test_pages_without_items_come_to_an_end(
    workspace_emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, asked = session(workspace_emulator, tmp_path), iter(range(1000))
    one.endpoints  # noqa: B018 - asked for while the service still answers
    monkeypatch.setattr(one._web, "request", lambda *_: {"value": [], "continuationToken": str(next(asked))})
    with pytest.raises(Rejected, match="more than 10 pages"):
        list(one.pages("models", MODELS, most=10))


def test_a_service_that_falls_silent_is_not_waited_for_without_end(
    workspace_emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's own requests name no time-out."""
    import socket

    import requests

    one = session(workspace_emulator, tmp_path)
    assert one.workspace.name == one.name
    monkeypatch.setattr(process, "TIMEOUT", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(Transient) as caught:
            one.call(lambda: requests.put(url, data="x"), "asking", again=False)
    assert caught.value.reason == "Unreachable"
