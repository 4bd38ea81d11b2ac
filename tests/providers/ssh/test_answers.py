"""What a machine says is taken for no more than it is."""

from __future__ import annotations

from typing import Any

import pytest

from edgetrain.core.errors import Conflict, ProviderError, Rejected, Transient
from edgetrain.core.ports import RunPhase
from edgetrain.providers.ssh.address import check
from edgetrain.providers.ssh.remote import answer
from edgetrain.providers.states import state_of


@pytest.mark.parametrize(
    "found",
    [
        None,
        [],
        {},
        {"phase": "done"},
        {"phase": "ended", "exit_code": "0"},
        {"phase": "ended", "exit_code": True},
        {"phase": "ended", "ended_by": "aliens"},
        {"phase": "ended", "ended": "yesterday"},
        {"phase": "running", "level": "total"},
        {"phase": "running", "usage": {"cpuSeconds": "many"}},
        {"phase": "running", "usage": {"cpuSeconds": float("nan")}},
        {"phase": "running", "usage": {"a b\n": 1}},
        {"phase": "running", "isolation": ["network"]},
    ],
)
def test_an_unsound_state_is_refused(found: Any) -> None:
    with pytest.raises(Rejected) as caught:
        state_of(found)
    assert caught.value.reason == "UnsoundAnswer"


def test_a_state_is_bounded_and_printable() -> None:
    state = state_of({"phase": "lost", "message": "a\x1b[2J" + "b" * 5000, "isolation": {"network": "yes"}})
    assert state.phase is RunPhase.LOST
    assert state.message.isprintable()
    assert len(state.message) <= 1000
    assert state.isolation == {"network": False}


def test_an_answer_is_found_below_a_greeting() -> None:
    assert answer(iter([b"Welcome!", b'{"ok": [1]}', b""])) == [1]


def test_an_error_keeps_its_kind() -> None:
    line = (
        b'{"error": {"kind": "Conflict", "message": "still\\u0007 runs", "reason": "StillRunning", "fix": "wait"}}'
    )
    with pytest.raises(Conflict) as caught:
        answer(iter([line]))
    assert (caught.value.reason, caught.value.fix) == ("StillRunning", "wait")
    assert caught.value.message.isprintable()
    with pytest.raises(ProviderError):
        answer(iter([b'{"error": {"kind": "SystemExit", "message": "x"}}']))
    with pytest.raises(Transient):
        answer(iter([b"bash: command not found"]))


@pytest.mark.parametrize(
    ("addresses", "networks", "reason"),
    [
        (["10.0.0.1"], [], "NetworksMissing"),
        (["10.0.0.1", "10.1.0.1"], ["10.0.0.0/16"], "AddressOutside"),
        (["127.0.0.1"], ["10.0.0.0/8"], "AddressOutside"),
        (["2001:db8::1"], ["10.0.0.0/8"], "AddressOutside"),
        (["::ffff:192.0.2.1"], ["10.0.0.0/8"], "AddressOutside"),
    ],
)
def test_an_address_outside_is_refused(addresses: list[str], networks: list[str], reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        check("vm.example", addresses, networks)
    assert caught.value.reason == reason


def test_addresses_inside_are_taken_once() -> None:
    found = check("vm.example", ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0"], ["10.0.0.0/8", "fe80::/10"])
    assert found == ["10.0.0.1", "fe80::1"]
