"""`edgetrain doctor` and `edgetrain logs` over the real parts of a site."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.record import Outcome
from edgetrain.reconcile.log_reader import read_log
from testbed.site import Testbed
from tests.edge.site import EdgeSite

pytestmark = [
    pytest.mark.needs("vm", "azurite", "registry", "mmdebstrap", "skopeo"),
    pytest.mark.xdist_group("edge-doctor"),
]


@pytest.fixture(scope="module")
def testbed() -> Iterator[Testbed]:
    with Testbed() as bed:
        yield bed


@pytest.fixture
def site(testbed: Testbed, tmp_path: Path) -> EdgeSite:
    return EdgeSite(tmp_path / "site", testbed).make(keepAlive="1s", connectTimeout="3s")


def doctor(site: EdgeSite) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and checks."""
    command = [sys.executable, "-m", "edgetrain", "doctor", "--format", "json"]
    done = subprocess.run(command, cwd=site.clone, capture_output=True, text=True, timeout=300, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, checks(json.loads(done.stdout))


def checks(value: Any) -> list[dict[str, Any]]:
    """Every check, however the answer groups them."""
    if isinstance(value, dict):
        if {"name", "status", "message"} <= set(value):
            return [value]
        return [check for inner in value.values() for check in checks(inner)]
    return [check for inner in value for check in checks(inner)] if isinstance(value, list) else []


def test_a_sound_site_passes(site: EdgeSite) -> None:
    code, found = doctor(site)
    assert code == 0, [check for check in found if check["status"] == "fail"]
    names = {check["name"] for check in found}
    assert {"host-key", "login", "user", "engine", "clock-skew", "python"} <= names, sorted(names)
    # The testbed signs in as root, which a site should not do.
    assert "user" in {check["name"] for check in found if check["status"] == "warn"}


def test_what_is_broken_is_named_with_its_fix(site: EdgeSite) -> None:
    assert site.testbed is not None
    site.testbed.vm.stop_sshd()
    site.testbed.registry.stop()
    try:
        code, found = doctor(site)
    finally:
        site.testbed.registry.start()
        site.testbed.vm.start_sshd()
    failed = [check for check in found if check["status"] == "fail"]
    assert code == 3
    assert {"HostUnreachable"} <= {check["reason"] for check in failed}, failed
    assert len(failed) >= 2
    assert all(check["reason"] and check["fix"] for check in failed), failed


def test_what_a_script_said_stays_on_the_vm_and_is_shown_to_who_holds_the_key(site: EdgeSite) -> None:
    result = site.apply()
    assert [r.outcome for r in result.results if r.outcome] == [Outcome.CANDIDATE]
    [path] = [path for path in site.records() if "/runs/" in path]
    name = "mean-" + Path(path).stem
    assert "trained on 3 numbers" in list(read_log(site.clone, name))
    held = [file for file in site.state.rglob("*") if file.is_file() and b"trained on" in file.read_bytes()]
    assert held == []
