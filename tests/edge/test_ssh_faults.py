"""Faults on the machine and on the runner: nothing is trained twice or left alive, no secret is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.errors import NotFound, ProviderError, Unavailable
from edgetrain.core.ports import CheckStatus, DataSource, InputMount, RunLimits, RunPhase
from edgetrain.core.secret import Secret
from edgetrain.providers.folder.datastore import FolderDatastore
from edgetrain.providers.ssh import diagnose
from testbed.base_image import Base
from testbed.vm import Vm
from tests.contract.compute import settle, until
from tests.contract.ssh_target import SshTarget
from tests.edge.ssh_runs import WAIT_FOR_WORD, let_go, script
from tests.walk import sample

pytestmark = [pytest.mark.long(0.4), pytest.mark.needs("vm", "mmdebstrap", "skopeo")]
ROOT = Path(__file__).resolve().parents[2]
ONCE = "print('begun')\nopen('/edgetrain/outputs/model.txt', 'w').write('weights')"
# A runner that kills itself at the n-th command on the machine, before it or after it; says how many there were.
RUNNER = """
import json, os, signal, sys
sys.path[:0] = json.loads(sys.argv[1])["path"]
from pathlib import Path
from edgetrain.providers.ssh import connection
from tests.contract.compute import spec
from tests.contract.ssh_target import SshTarget
given = json.loads(sys.argv[1])
class Vm:
    address, port, username = given["address"], 22, "root"
    host_keys, network, private_key = given["host_keys"], given["network"], Path(given["private_key"])
class Image:
    layout, kind, digest, python = Path(given["layout"]), given["kind"], given["digest"], given["python"]
target = SshTarget(Vm(), Image(), Path(given["state"]), given["work"])
made = spec(Path(given["spec"]), target.python, image=target.image, id=given["id"], command="python train.py")
(made.code / "train.py").write_text(given["source"])
calls, run = [], connection.Connection.run
def counted(self, *args, **more):
    calls.append(None)
    if len(calls) == given["at"] and not given["after"]:
        os.kill(os.getpid(), signal.SIGKILL)
    done = run(self, *args, **more)
    if len(calls) == given["at"] and given["after"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
connection.Connection.run = counted
target.connect().start(made)
print(len(calls))
"""


@pytest.fixture
def target(vm: Vm, base_image: Base, tmp_path: Path) -> SshTarget:
    return SshTarget(vm, base_image, tmp_path / "state", f"/srv/{tmp_path.name}")


def runner(target: SshTarget, folder: Path, run_id: str, at: int, after: bool) -> subprocess.CompletedProcess[str]:
    """Start the run in a process of its own, killed at a point."""
    vm, base = target.vm, target.base
    given = {
        "path": [str(ROOT), str(ROOT / "tools")],
        "address": vm.address,
        "host_keys": vm.host_keys,
        "network": vm.network,
        "private_key": str(vm.private_key),
        "layout": str(base.layout),
        "kind": base.kind,
        "digest": base.digest,
        "python": base.python,
        "state": str(target.state),
        "work": target.work,
        "spec": str(folder),
        "id": run_id,
        "source": ONCE,
        "at": at,
        "after": after,
    }
    command = [sys.executable, "-c", RUNNER, json.dumps(given)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_runner_killed_at_any_step_of_a_start_is_followed_by_one_that_ends_it(
    vm: Vm, base_image: Base, tmp_path: Path
) -> None:
    def fresh(name: str) -> SshTarget:
        """Nothing is there yet but the image, which all share."""
        return SshTarget(vm, base_image, tmp_path / "state", f"/srv/{tmp_path.name}-{name}")

    warm = fresh("warm").connect()
    warm.machine.image(fresh("warm").image)
    whole = runner(fresh("whole"), tmp_path / "whole", "wear-0123456789ab-1", 0, False)
    assert whole.returncode == 0, whole.stderr
    points = [(at, after) for at in range(1, int(whole.stdout) + 1) for after in (False, True)]
    assert len(points) > 10
    for number in sample(len(points), 4):
        at, after = points[number]
        target = fresh(str(number))
        killed = runner(target, tmp_path / f"killed-{number}", f"wear-0123456789ab-{number}", at, after)
        assert killed.returncode == -signal.SIGKILL, (at, after, killed.stderr)
        again, compute = script(target, tmp_path, ONCE, id=f"wear-0123456789ab-{number}"), target.connect()
        compute.start(again)
        assert settle(compute, again.id).exit_code == 0, (at, after)
        assert (target.folder(again.id) / "log").read_text().count("begun") == 1, (at, after)


def test_two_runners_start_the_same_run_once(target: SshTarget, tmp_path: Path) -> None:
    made = script(target, tmp_path, WAIT_FOR_WORD)
    computes = [target.connect(), target.connect()]
    computes[0].machine.image(made.image)
    failures: list[BaseException] = []

    def begin(number: int) -> None:
        try:
            computes[number].start(made)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=begin, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    settle(computes[0], made.id, RunPhase.RUNNING)
    let_go(target, made.id)
    assert settle(computes[1], made.id).exit_code == 0
    assert (target.folder(made.id) / "log").read_text().count("begun") == 1


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_nothing_of_a_run_that_was_ended_is_left(target: SshTarget, tmp_path: Path, how: str) -> None:
    stubborn = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('begun', flush=True)\n"
    target.grace = 0.5
    limits = RunLimits(timeout=300 if how == "cancel" else 2)
    made = script(target, tmp_path, stubborn + "while True:\n    time.sleep(1)", limits=limits)
    compute = target.connect()
    compute.start(made)
    assert next(compute.logs(made.id, follow=True)) == "begun"
    if how == "cancel":
        compute.cancel(made.id, "Superseded")
    state = settle(compute, made.id)
    assert (state.phase, state.ended_by) == (RunPhase.ENDED, how)
    assert not target.alive(made.id)
    label = f"label=edgetrain.run={made.id}"
    assert target.vm.run(["podman", "ps", "-a", "-q", "--filter", label]).stdout == ""
    held = target.vm.processes().values()
    until(lambda: not any(made.id in line for line in target.vm.processes().values()), f"all to end: {held}")


def test_changed_data_ends_the_run_before_it_starts(target: SshTarget, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "patients.csv").write_text("1,2")
    store = FolderDatastore(root=tmp_path / "data", cache=tmp_path / "digests")
    compute = target.connect()
    measured = compute.measure(store.source("."))
    assert measured is not None
    assert measured == store.digest(".")
    (tmp_path / "data" / "patients.csv").write_text("3,4")
    made = script(target, tmp_path, ONCE, inputs=(InputMount("table", store.source("."), measured.digest),))
    compute.start(made)
    state = compute.inspect(made.id)
    assert (state.phase, state.ended_by) == (RunPhase.ENDED, "data")
    assert "table" in state.message
    assert "patients" not in state.message
    compute.start(made)
    assert compute.inspect(made.id) == state
    compute.forget(made.id)
    assert compute.runs() == []


def test_the_log_of_a_forgotten_run_is_kept_for_its_retention(vm: Vm, base_image: Base, tmp_path: Path) -> None:
    target = SshTarget(vm, base_image, tmp_path / "state", f"/srv/{tmp_path.name}", runRetention="1d")
    compute = target.connect()
    made, other = script(target, tmp_path, ONCE), script(target, tmp_path, ONCE)
    for one in (made, other):
        compute.start(one)
        settle(compute, one.id)
    compute.forget(made.id)
    assert compute.runs() == [other.id]
    assert compute.inspect(made.id).phase is RunPhase.LOST
    assert list(compute.logs(made.id)) == list(compute.logs(other.id))
    assert not (target.folder(made.id) / "outputs").exists()
    mark = target.folder(made.id) / "forgotten"
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "time": 0}))
    compute.forget(other.id)
    assert sorted(path.name for path in target.folder(made.id).iterdir()) == ["forgotten", "lock"]
    with pytest.raises(NotFound):
        list(compute.logs(made.id))
    assert (target.folder(other.id) / "log").exists()


def test_a_full_disk_is_told_and_the_next_start_succeeds(target: SshTarget, tmp_path: Path) -> None:
    compute = target.connect()
    made = script(target, tmp_path, ONCE)
    (made.code / "large.bin").write_bytes(os.urandom(8 * 2**20))
    compute.machine.tried(compute.machine.image(made.image))
    target.vm.limit_disk(f"{target.work}/runs", "4M")
    with pytest.raises(Unavailable) as caught:
        compute.start(made)
    assert caught.value.reason == "StorageFull"
    assert compute.inspect(made.id).phase is RunPhase.ABSENT
    target.vm.run(["umount", f"{target.work}/runs"])
    compute.start(made)
    assert settle(compute, made.id).exit_code == 0


def test_an_environment_that_was_removed_meanwhile_is_brought_again(target: SshTarget, tmp_path: Path) -> None:
    compute, other = target.connect(), target.connect()
    for _ in range(2):
        made = script(target, tmp_path, ONCE)
        compute.start(made)
        assert settle(compute, made.id).exit_code == 0
        (kept,) = other.environments()
        other.drop_environment(kept.id)


def test_a_work_folder_that_others_can_write_is_not_used(target: SshTarget, tmp_path: Path) -> None:
    compute = target.connect()
    compute.inspect("nobody")
    place = target.vm.path(target.work)
    place.chmod(0o777)
    status = target.connect().observe()
    assert (status.ready, status.reason) == (False, "WorkFolderUnsafe")
    place.chmod(0o700)
    moved = place.with_name(place.name + "-moved")
    place.rename(moved)
    place.symlink_to(moved)
    assert target.connect().observe().reason == "WorkFolderUnsafe"


def test_no_secret_and_no_way_in_is_written_on_the_machine(
    target: SshTarget, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    canary = "canary-7f3a91c2d4"
    key = target.vm.private_key.read_text()
    parts = [canary, *(line for line in key.splitlines() if len(line) > 20 and "KEY" not in line)]
    # A store that can't be reached, with an access that must not be left anywhere.
    access = {"sas": f"sv=2019-07-07&sig={canary}", "apiVersion": "2019-07-07"}
    source = DataSource("azure-blob", "http://198.51.100.250:9/account/container", "p/", access)
    compute = target.connect()
    made = script(target, tmp_path, ONCE)
    compute.start(made)
    settle(compute, made.id)
    said = ""
    with pytest.raises(ProviderError) as caught:
        compute.measure(source)
    said += f"{caught.value} {caught.value.fix} {caught.value.__cause__} {caught.value.__context__}"
    said += repr(list(compute.diagnose([source]))) + repr(compute.settings) + repr(source)
    wrong = replace(compute.settings, secret=lambda name: Secret(key[:-40]))
    said += repr(type(compute)(wrong).observe())
    said += caplog.text + "".join(capfd.readouterr()) + "\n".join(target.vm.processes().values())
    written = [said.encode(), *contents(target.vm.path(target.work)), *contents(target.vm.path("/var/log"))]
    assert len(written) > 20
    for part in parts:
        assert not any(part.encode() in data for data in written)


def contents(folder: Path) -> Iterator[bytes]:
    """All files below, and their names."""
    for at, _, names in os.walk(folder):
        for name in names:
            path = Path(at) / name
            if path.is_file() and not path.is_symlink():
                yield os.fsencode(path) + path.read_bytes()


def test_a_clock_that_is_off_is_told(target: SshTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = target.connect()

    def clock() -> Any:
        (found,) = (check for check in compute.diagnose(cheap=True) if check.name == "clock-skew")
        return found.status

    assert clock() is CheckStatus.PASS
    now = diagnose.time.time
    for seconds, status in ((60, CheckStatus.WARN), (3600, CheckStatus.FAIL), (-3600, CheckStatus.FAIL)):
        monkeypatch.setattr(diagnose, "time", FakeTime(now, seconds))
        assert clock() is status


class FakeTime:
    """This machine's clock, off by some seconds: the VM's is the same as this machine's."""

    def __init__(self, now: Any, seconds: float) -> None:
        self.time = lambda: now() + seconds


def test_doctor_tells_what_is_wrong_and_how_to_mend_it(vm: Vm, base_image: Base, tmp_path: Path) -> None:
    def checks(**block: Any) -> dict[str, Any]:
        found = SshTarget(vm, base_image, tmp_path / "state", f"/srv/{tmp_path.name}", **block)
        return {check.name: check for check in type(found.connect())(found.settings(CAPACITY)).diagnose()}

    found = checks()
    assert {name for name, check in found.items() if check.status is CheckStatus.FAIL} == {"memory", "gpu"}
    assert found["user"].status is CheckStatus.WARN
    assert {"address", "host-key", "login", "engine", "isolation", "limits", "disk"} <= set(found)
    assert all(check.fix and check.reason for check in found.values() if check.status is not CheckStatus.PASS)
    assert checks(username="edgetrain")["machine"].reason == "WorkFolderUnsafe"  # it is root's
    assert checks(username="edgetrain", workFolder="/srv/not-mine")["machine"].reason == "NoPermission"
    found = checks(username="edgetrain", workFolder=f"/home/edgetrain/{tmp_path.name}")
    assert found["user"].status is CheckStatus.PASS
    assert checks(hostKeys=OTHER_KEY)["host-key"].reason == "HostKeyMismatch"
    assert checks(username="nobody-there")["login"].reason == "LoginRefused"
    assert checks(port=2)["connection"].reason == "HostUnreachable"


CAPACITY = {"cpus": 1, "memory": 2**50, "gpus": 1, "slots": 1}
OTHER_KEY = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHgkYVmVWlPOPs53aftqmDU0/IVMtL9e3e5YAGnniHUM"]
