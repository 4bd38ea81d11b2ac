"""Whether a sandbox is there is seen, not assumed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from edgetrain.core.errors import Rejected
from edgetrain.core.ports import EgressLevel
from edgetrain.onsite.sandbox import ISOLATION
from edgetrain.providers.local.provider import LocalCompute, build_environment
from tests.contract.compute import settle, spec
from tests.contract.local_target import LocalTarget


def program(folder: Path, text: str) -> Path:
    """A stand-in for bubblewrap."""
    path = folder / "bwrap"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def compute(state: Path, bwrap: Path | None, allow: bool = False) -> LocalCompute:
    found = str(bwrap) if bwrap else None
    return LocalCompute(name="x", state=state, allow_unsandboxed=allow, capacity={}, bwrap=lambda: found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "not installed"),
        ("echo 'setting up uid map: Permission denied' >&2; exit 1", "uid map: Permission denied"),
        ("echo nonsense", "could not be tried"),
        ("""echo '{"network": false, "pidNamespace": true}'""", "does not hold: network, readOnly"),
    ],
)
def test_a_sandbox_that_does_not_work_is_none(tmp_path: Path, text: str | None, said: str) -> None:
    bwrap = program(tmp_path, text) if text else None
    strict = compute(tmp_path / "state", bwrap)
    status = strict.observe()
    assert (status.ready, status.reason, status.egress) == (False, "SandboxMissing", EgressLevel.ADVISORY)
    assert said in status.message
    assert "apt install bubblewrap" in status.message and "allowUnsandboxed: true" in status.message
    assert status.isolation == dict.fromkeys(ISOLATION, False)
    lax = compute(tmp_path / "state", bwrap, allow=True).observe()
    assert (lax.ready, lax.egress) == (True, EgressLevel.ADVISORY)
    made = spec(tmp_path, LocalTarget.python)
    with pytest.raises(Rejected) as caught:
        strict.start(made)
    assert caught.value.reason == "SandboxMissing"
    assert "allowUnsandboxed" in caught.value.fix
    assert strict.runs() == []


def test_enforced_is_demanded_even_where_plain_runs_are_allowed(tmp_path: Path) -> None:
    made = spec(tmp_path, LocalTarget.python, require_enforced=True)
    with pytest.raises(Rejected) as caught:
        compute(tmp_path / "state", None, allow=True).start(made)
    assert caught.value.reason == "SandboxMissing"


def test_a_plain_run_says_that_it_was_plain(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "state", sandbox=False)
    made = spec(tmp_path, target.python, ["write", "model.txt", "x"])
    connected = target.connect()
    connected.start(made)
    state = settle(connected, made.id)
    assert state.level is EgressLevel.ADVISORY
    assert set(state.isolation) == set(ISOLATION)
    assert state.isolation["hostHidden"] is False and state.isolation["readOnly"] is False


@pytest.mark.needs("bubblewrap")
def test_a_sandbox_that_works_is_observed(tmp_path: Path) -> None:
    status = LocalTarget(tmp_path / "state").connect().observe()
    assert (status.ready, status.reason, status.egress) == (True, "Ready", EgressLevel.ENFORCED)
    assert status.isolation == dict.fromkeys(ISOLATION, True)
    assert status.message == ""
    assert not (tmp_path / "state").exists()


def test_only_what_a_build_needs_is_passed_on() -> None:
    found = build_environment(
        {
            "PATH": "/usr/bin",
            "HOME": "/home/x",
            "HTTPS_PROXY": "http://proxy",
            "no_proxy": "localhost",
            "PIP_INDEX_URL": "https://mirror/simple",
            "PIP_EXTRA_INDEX_URL": "https://other/simple",
            "UV_INDEX": "https://kept/simple",
            "RUNNER_TRACKING_ID": "github_1",
            "GITHUB_TOKEN": "secret",
            "PYTHONPATH": "/x",
        }
    )
    assert found == {
        "PATH": "/usr/bin",
        "HOME": "/home/x",
        "HTTPS_PROXY": "http://proxy",
        "no_proxy": "localhost",
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_INDEX": "https://kept/simple",
        "LANG": "C.UTF-8",
        "UV_SYSTEM_CERTS": "true",
    }
    assert build_environment({})["UV_NO_CACHE"] == "1"
