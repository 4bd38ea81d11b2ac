"""Signing in: pinned host keys, checked addresses, declared secrets; everything else is refused, and told why."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.errors import Denied, EdgetrainError, NotFound, Rejected
from edgetrain.core.ports import CheckStatus, TargetSettings
from edgetrain.core.secret import Secret
from edgetrain.providers.ssh.connection import Connection
from edgetrain.providers.ssh.login import route
from edgetrain.providers.ssh.provider import SshCompute
from testbed.vm import Vm

pytestmark = pytest.mark.needs("vm")
STRONG = "vK7-quill-Orbit-93-fjord-Tamber"


def keygen(folder: Path, kind: str, passphrase: str = "") -> Path:
    """A new private key, its public one beside it."""
    key = folder / f"key-{kind}"
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "", "-f", str(key)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return key


def public(key: Path) -> str:
    """As a manifest pins it."""
    return " ".join(key.with_name(key.name + ".pub").read_text().split()[:2])


def fingerprint(key: str) -> str:
    """As OpenSSH shows it."""
    done = subprocess.run(["ssh-keygen", "-lf", "-"], input=key, capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


def settings(vm: Vm, **block: Any) -> TargetSettings:
    """The VM's, with the key that it knows; None takes an entry of the block away."""
    base: dict[str, Any] = {
        "host": vm.address,
        "username": vm.username,
        "hostKeys": vm.host_keys,
        "privateKey": {"secret": "site-key"},
        "connectTimeout": "5s",
    }
    found = {name: value for name, value in {**base, **block}.items() if value is not None}
    return TargetSettings(
        name="edge-vm",
        block=found,
        state=Path("/nowhere"),
        networks=(vm.network,),
        secret=lambda name: Secret(vm.private_key.read_text()),
    )


def refused(given: TargetSettings) -> EdgetrainError:
    """What connecting raises."""
    with pytest.raises(EdgetrainError) as caught:
        Connection(route(given)).connect()
    return caught.value


def test_the_pinned_key_lets_in(vm: Vm) -> None:
    done = Connection(route(settings(vm))).run(["echo", "a b", "c'd"])
    assert (done.code, done.stdout) == (0, b"a b c'd\n")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_another_host_key_is_refused_with_both_fingerprints(vm: Vm, tmp_path: Path, kind: str) -> None:
    wrong = public(keygen(tmp_path, kind))
    error = refused(settings(vm, hostKeys=[wrong]))
    assert isinstance(error, Denied)
    assert error.reason == "HostKeyMismatch"
    assert fingerprint(vm.host_keys[0]) in error.message
    assert fingerprint(wrong) in error.message
    assert error.fix


def test_no_key_of_the_runners_user_is_trusted_or_tried(
    vm: Vm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(f"{vm.address} {vm.host_keys[0]}\n")
    (tmp_path / ".ssh" / "id_ed25519").write_text(vm.private_key.read_text())
    (tmp_path / ".ssh" / "config").write_text("Host *\n  User nobody\n  Port 1\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert refused(settings(vm, hostKeys=[public(keygen(tmp_path, "ed25519"))])).reason == "HostKeyMismatch"
    other = replace(settings(vm), secret=lambda name: Secret(keygen(tmp_path, "ecdsa").read_text()))
    assert refused(other).reason == "LoginRefused"
    assert Connection(route(settings(vm))).run(["id", "-un"]).stdout.strip() == b"root"


@pytest.mark.parametrize(
    ("networks", "reason"), [((), "NetworksMissing"), (("10.0.0.0/8", "2001:db8::/32"), "AddressOutside")]
)
def test_only_the_sites_networks_are_connected_to(vm: Vm, networks: tuple[str, ...], reason: str) -> None:
    error = refused(replace(settings(vm), networks=networks))
    assert isinstance(error, Rejected)
    assert error.reason == reason
    assert error.fix


def test_a_name_counts_by_all_its_addresses(vm: Vm) -> None:
    assert refused(settings(vm, host="localhost")).reason == "AddressOutside"
    error = refused(settings(vm, host="no-such-host.invalid"))
    assert isinstance(error, NotFound) or error.reason == "NameNotResolved"


def test_keys_that_can_not_be_used_are_told_without_showing_them(vm: Vm, tmp_path: Path) -> None:
    locked = keygen(tmp_path, "ed25519", "hunter2-hunter2").read_text()
    for value, reason in ((locked, "KeyHasPassphrase"), ("no key at all", "InvalidKey")):

        def secret(name: str, value: str = value) -> Secret:
            return Secret(value)

        error = refused(replace(settings(vm), secret=secret))
        assert error.reason == reason
        assert value not in error.message + error.fix


@pytest.fixture(scope="module")
def password_vm() -> Iterator[Vm]:
    with Vm(password=STRONG) as part:
        yield part


def by_password(vm: Vm, word: str) -> TargetSettings:
    """The VM's, with a password only."""
    given = settings(vm, privateKey=None, password={"secret": "word"})
    return replace(given, secret=lambda name: Secret(word))


def test_a_strong_password_lets_in_and_another_does_not(password_vm: Vm) -> None:
    done = Connection(route(by_password(password_vm, STRONG))).run(["id", "-un"])
    assert done.stdout.strip() == b"root"
    error = refused(by_password(password_vm, STRONG + "x"))
    assert error.reason == "LoginRefused"
    assert STRONG not in error.message


def test_a_weak_password_is_never_sent(password_vm: Vm) -> None:
    log = password_vm.path("/var/log/sshd.log")
    before = log.read_text().count("Failed password")
    error = refused(by_password(password_vm, "Password1234567"))
    assert error.reason == "WeakPassword"
    assert "Password1234567" not in error.message
    assert log.read_text().count("Failed password") == before


@pytest.fixture(scope="module")
def behind(vm: Vm) -> Iterator[Vm]:
    with Vm(behind=vm) as part:
        yield part


def through(vm: Vm, behind: Vm, **jump: Any) -> TargetSettings:
    """The VM behind, through the other one."""
    base = {
        "host": vm.address,
        "username": vm.username,
        "hostKeys": vm.host_keys,
        "privateKey": {"secret": "jump-key"},
    }
    keys = {"jump-key": vm.private_key, "site-key": behind.private_key}
    given = replace(settings(behind), secret=lambda name: Secret(keys[name].read_text()))
    return replace(
        given, block={**given.block, "jumpHost": {**base, **jump}}, networks=(vm.network, behind.network)
    )


def test_a_jump_host_leads_to_the_machine(vm: Vm, behind: Vm) -> None:
    compute = SshCompute(through(vm, behind))
    assert compute.machine.host()["boot"] == behind.boot_id
    checks = {check.name: check for check in compute.diagnose(cheap=True)}
    assert checks["connection"].status is CheckStatus.PASS


def test_a_jump_host_has_pinned_keys_and_a_checked_address_of_its_own(vm: Vm, behind: Vm, tmp_path: Path) -> None:
    wrong = public(keygen(tmp_path, "ed25519"))
    error = refused(through(vm, behind, hostKeys=[wrong]))
    assert error.reason == "HostKeyMismatch"
    assert vm.address in error.message
    assert refused(replace(through(vm, behind), networks=(behind.network,))).reason == "AddressOutside"
    given = through(vm, behind)
    error = refused(replace(given, block={**given.block, "hostKeys": [wrong]}))
    assert error.reason == "HostKeyMismatch"
    assert behind.address in error.message
