"""The VM is a machine of its own: network, users, disk, processes; and it can be cut off and rebooted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from testbed.azurite import Azurite
from testbed.part import until
from testbed.registry import Registry
from testbed.vm import Vm

pytestmark = pytest.mark.needs("vm")


def test_lets_its_users_in_by_key_and_is_not_this_machine(vm: Vm, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("on this machine")
    done = vm.ssh(f"id -un; hostname; cat {tmp_path}/mine; test -w /usr || echo read-only")
    assert done.stdout.split() == ["root", vm.name, "read-only"]
    assert vm.ssh("id -un", user="edgetrain").stdout == "edgetrain\n"
    assert vm.ssh("cat /etc/shadow", user="edgetrain").returncode != 0
    assert vm.ssh(f"ls {Path(__file__).parents[2]}").stdout == ""


@pytest.mark.needs("azurite")
@pytest.mark.needs("registry")
def test_reaches_services_on_this_machine_and_nothing_else(
    vm: Vm, azurite: Azurite, registry_open: Registry
) -> None:
    fetch = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).status)"
    assert vm.ssh(f"python3 -c '{fetch}' http://{vm.host_address}:{registry_open.port}/v2/").stdout == "200\n"
    answer = vm.ssh(f"python3 -c '{fetch}' {azurite.endpoint_at(vm.host_address)}/none/none")
    assert "HTTPError" in answer.stderr  # Azurite answers, though it refuses
    routes = vm.run(["ip", "route"]).stdout.split("\n")
    assert [line.split()[0] for line in routes if line] == ["198.51.100.0/24", vm.network]


def asleep(vm: Vm) -> bool:
    return "sleep 1000" in vm.processes().values()


def test_reboots_with_its_disk_and_another_boot_id() -> None:
    with Vm() as own:
        own.ssh("nohup sleep 1000 >/dev/null 2>&1 & echo kept > /root/kept; echo gone > /run/gone")
        until(lambda: asleep(own), "the background job")
        before, address = own.boot_id, own.address
        seen = own.ssh("cat /proc/sys/kernel/random/boot_id").stdout.strip()
        own.reboot()
        assert own.address == address
        assert seen == before
        assert own.ssh("cat /proc/sys/kernel/random/boot_id /root/kept").stdout.split() == [own.boot_id, "kept"]
        assert own.boot_id != before
        assert not own.path("/run/gone").exists()
        assert not asleep(own)


def test_loses_its_link_and_gets_it_back_while_what_runs_goes_on() -> None:
    with Vm() as own:
        own.ssh("nohup sleep 1000 >/dev/null 2>&1 &")
        until(lambda: asleep(own), "the background job")
        own.cut()
        assert own.ssh("true").returncode == 255
        own.restore()
        assert own.ssh("true").returncode == 0
        own.restart_sshd()
        assert own.ssh("true").returncode == 0
        assert asleep(own)


def test_hides_behind_a_jump_host() -> None:
    with Vm("jump") as jump, Vm("inner", behind=jump) as inner:
        assert inner.ssh("true").returncode == 255
        jump.path("/root/key").write_bytes(inner.private_key.read_bytes())
        jump.path("/root/key").chmod(0o600)
        options = "-i key -o StrictHostKeyChecking=no -o BatchMode=yes"
        assert jump.ssh(f"ssh {options} root@{inner.address} hostname").stdout == "inner\n"


def test_fills_a_small_disk() -> None:
    with Vm() as own:
        own.limit_disk("/srv/runs", "1M")
        assert "No space left" in own.ssh("head -c 2M /dev/zero > /srv/runs/big").stderr


def test_ends_when_its_owner_is_killed() -> None:
    script = (
        "import signal\nfrom testbed.vm import Vm\n"
        "vm = Vm(); vm.start(); print(vm.address, vm._pid, flush=True); signal.pause()"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    address, pid = owner.stdout.readline().split()
    near = f" {address.rpartition('.')[0]}.{int(address.rpartition('.')[2]) - 1}/30 "

    def addresses() -> str:
        return subprocess.run(["ip", "-o", "-4", "address"], capture_output=True, text=True, check=True).stdout

    assert near in addresses()
    owner.kill()
    owner.wait()
    until(lambda: not Path("/proc", pid).exists(), "the VM to end")
    until(lambda: near not in addresses(), "its link to go")
