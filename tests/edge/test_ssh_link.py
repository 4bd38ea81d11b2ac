"""The link to the machine fails at each phase: runs go on, are found again, and none is started twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.errors import Transient
from edgetrain.core.ports import RunPhase
from edgetrain.providers.ssh import connection, starting, transfer
from testbed.base_image import Base
from testbed.vm import Vm
from tests.contract.compute import settle, until
from tests.contract.ssh_target import SshTarget
from tests.edge.ssh_runs import WAIT_FOR_WORD, let_go, script

pytestmark = pytest.mark.needs("vm", "mmdebstrap", "skopeo")
RECONNECT = 5.0


@pytest.fixture(scope="module")
def own_vm() -> Iterator[Vm]:
    """A VM whose link these tests may cut."""
    with Vm() as part:
        yield part


@pytest.fixture
def target(own_vm: Vm, base_image: Base, tmp_path: Path) -> Iterator[SshTarget]:
    yield SshTarget(own_vm, base_image, tmp_path / "state", f"/srv/{tmp_path.name}")
    own_vm.restore()


class Cut:
    """Cuts the link at the first call, and brings it back after a while."""

    def __init__(self, vm: Vm) -> None:
        self.vm, self.done = vm, False

    def __call__(self) -> None:
        if not self.done:
            self.done = True
            self.vm.cut()
            threading.Timer(RECONNECT, self.vm.restore).start()


def counted(target: SshTarget, run_id: str) -> int:
    """How often the script ran."""
    return (target.folder(run_id) / "log").read_text().count("begun")


def test_a_run_goes_on_without_the_link_and_is_found_again(target: SshTarget, tmp_path: Path) -> None:
    made = script(target, tmp_path, WAIT_FOR_WORD)
    compute = target.connect()
    compute.start(made)
    settle(compute, made.id, RunPhase.RUNNING)
    target.vm.cut()
    let_go(target, made.id)
    until((target.folder(made.id) / "ended.json").exists, "the run to end by itself")
    target.vm.restore()
    assert compute.inspect(made.id).exit_code == 0
    other = target.connect()
    other.start(made)
    assert other.inspect(made.id).exit_code == 0
    assert counted(target, made.id) == 1
    assert list(other.logs(made.id)) == ["begun", "done"]


def test_without_the_link_the_failure_is_transient_and_in_time(
    target: SshTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 3.0)
    compute = target.connect()
    assert compute.inspect("nobody").phase is RunPhase.ABSENT
    target.vm.cut()
    for _ in range(2):  # on the connection that was, and on a new one
        with pytest.raises(Transient) as caught:
            compute.inspect("nobody")
        assert caught.value.reason == "HostUnreachable"
        assert caught.value.fix
    target.vm.restore()
    assert compute.inspect("nobody").phase is RunPhase.ABSENT


def test_the_link_is_cut_while_a_run_is_started(
    target: SshTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Cut(target.vm)
    packed = transfer.packed

    def cut_in_the_middle(folder: Path) -> Iterator[bytes]:
        for part in packed(folder):
            yield part
            cut()

    made = script(target, tmp_path, "print('begun')\nopen('/edgetrain/outputs/model.txt', 'w').write('x')")
    (made.code / "weights.bin").write_bytes(bytes(range(256)) * 2**16)
    monkeypatch.setattr(starting, "packed", cut_in_the_middle)
    compute = target.connect()
    compute.start(made)
    assert cut.done
    assert settle(compute, made.id).exit_code == 0
    assert counted(target, made.id) == 1
    assert (target.folder(made.id) / "code" / "weights.bin").stat().st_size == 2**24


def test_the_link_is_cut_while_an_output_is_copied(
    target: SshTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "open('/edgetrain/outputs/model.txt', 'wb').write(bytes(range(256)) * 2**17)"
    made = script(target, tmp_path, source)
    compute = target.connect()
    compute.start(made)
    assert settle(compute, made.id).exit_code == 0
    cut, offsets, came = Cut(target.vm), [], list[bytes]()
    following: Callable[[Iterator[bytes]], bytes] = transfer._next
    talk = compute.remote.talk

    def cut_in_the_middle(parts: Iterator[bytes]) -> bytes:
        part = following(parts)
        if came:  # the first may be the size alone
            cut()
        came.append(part)
        return part

    def told(verb: str, **request: Any) -> Any:
        offsets.append(request["offset"])
        return talk(verb, **request)

    monkeypatch.setattr(transfer, "_next", cut_in_the_middle)
    monkeypatch.setattr(compute.remote, "talk", told)
    compute.fetch(made.id, "model.txt", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == bytes(range(256)) * 2**17
    assert len(offsets) > 1
    assert offsets[-1] > 0  # what had come was not sent again


def test_a_log_that_is_followed_goes_on_after_a_cut(target: SshTarget, tmp_path: Path) -> None:
    made = script(target, tmp_path, WAIT_FOR_WORD)
    compute = target.connect()
    compute.start(made)
    follower = compute.logs(made.id, follow=True)
    assert next(follower) == "begun"
    Cut(target.vm)()
    let_go(target, made.id)
    assert list(follower) == ["done"]


def test_sshd_is_killed_with_its_sessions(target: SshTarget, tmp_path: Path) -> None:
    made = script(target, tmp_path, WAIT_FOR_WORD)
    compute = target.connect()
    compute.start(made)
    settle(compute, made.id, RunPhase.RUNNING)
    target.vm.restart_sshd()
    assert compute.inspect(made.id).phase is RunPhase.RUNNING
    let_go(target, made.id)
    assert settle(compute, made.id).exit_code == 0
    assert counted(target, made.id) == 1


def test_a_run_is_lost_by_a_reboot_and_the_next_attempt_starts(target: SshTarget, tmp_path: Path) -> None:
    made = script(target, tmp_path, WAIT_FOR_WORD)
    compute = target.connect()
    compute.start(made)
    settle(compute, made.id, RunPhase.RUNNING)
    target.vm.reboot()
    state = compute.inspect(made.id)
    assert (state.phase, state.message) == (RunPhase.LOST, "the machine was started anew")
    compute.start(made)
    assert compute.inspect(made.id).phase is RunPhase.LOST
    assert not target.alive(made.id)
    again = script(target, tmp_path, "print('begun')")
    compute.start(again)
    assert settle(compute, again.id).exit_code == 0
    compute.forget(made.id)
    assert compute.runs() == [again.id]
