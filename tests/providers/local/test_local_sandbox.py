"""Inside the sandbox: a script that tries to get at the machine, as a real script would."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.ports import DataSource, EgressLevel, InputMount, RunLimits
from edgetrain.onsite.sandbox import ISOLATION, arguments
from edgetrain.providers.contract import SILENT
from edgetrain.providers.local import prepare
from edgetrain.providers.local.provider import LocalCompute, default_program
from tests.contract.compute import settle
from tests.contract.local_target import LocalTarget

from .scripts import play, script

pytestmark = pytest.mark.needs("bubblewrap")

TRIES = """
import json, os, pathlib, socket, sys
found = {}
def attempt(name, what):
    try:
        found[name] = repr(what())[:200]
    except BaseException as error:
        found[name] = "refused: " + type(error).__name__
attempt("passwd", lambda: open("/etc/passwd").read())
attempt("home", lambda: os.listdir(HOST_HOME))
attempt("state", lambda: os.listdir(HOST_STATE))
attempt("root", lambda: sorted(os.listdir("/")))
attempt("write root", lambda: open("/x", "w"))
attempt("write usr", lambda: open("/usr/x", "w"))
attempt("write dev", lambda: open("/dev/x", "w"))
attempt("write code", lambda: open("train.py", "a"))
attempt("write input", lambda: open(os.environ["EDGETRAIN_INPUT_IMAGES"] + "/x", "w"))
attempt("change input", lambda: open(os.environ["EDGETRAIN_INPUT_IMAGES"] + "/a.csv", "a"))
attempt("write environment", lambda: open(sys.prefix + "/x", "w"))
attempt("kernel", lambda: open("/proc/sys/kernel/core_pattern", "w"))
attempt("connect", lambda: socket.create_connection(("127.0.0.1", HOST_PORT), 2))
attempt("outside", lambda: socket.create_connection(("192.0.2.1", 80), 2))
attempt("names", lambda: socket.getaddrinfo("example.org", 443))
attempt("abstract", lambda: socket.socket(socket.AF_UNIX).connect("\\0edgetrain-host"))
attempt("kill", lambda: os.kill(HOST_PID, 9))
attempt("ptrace", lambda: open("/proc/1/environ", "rb").read() and None)
found["processes"] = len([name for name in os.listdir("/proc") if name.isdigit()])
found["environment"] = dict(os.environ)
found["cwd"] = os.getcwd()
found["read"] = pathlib.Path(os.environ["EDGETRAIN_INPUT_IMAGES"], "a.csv").read_text()
for name in ("/tmp/x", os.path.expanduser("~/x"), "/dev/shm/x"):
    pathlib.Path(name).write_text("scratch")
pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"], "model.txt").write_text(json.dumps(found))
"""


@pytest.fixture
def target(tmp_path: Path) -> LocalTarget:
    return LocalTarget(tmp_path / "state")


def test_nothing_of_the_host_is_visible(
    target: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.csv").write_text("1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter2@proxy:3128")
    with socket.socket() as listening, socket.socket(socket.AF_UNIX) as abstract:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        abstract.bind("\0edgetrain-host")
        abstract.listen()
        host = {
            "HOST_HOME": str(Path.home()),
            "HOST_STATE": str(target.state),
            "HOST_PORT": listening.getsockname()[1],
            "HOST_PID": os.getpid(),
        }
        source = "".join(f"{name} = {value!r}\n" for name, value in host.items()) + TRIES
        made = script(
            target,
            tmp_path,
            source,
            inputs=(InputMount("images", DataSource("folder", str(data)), ""),),
            require_enforced=True,
        )
        compute = target.connect()
        compute.start(made)
        state = settle(compute, made.id)
    assert state.exit_code == 0, [state, *compute.logs(made.id)]
    assert state.level is EgressLevel.ENFORCED
    assert dict(state.isolation) == dict.fromkeys(ISOLATION, True)
    compute.fetch(made.id, "model.txt", tmp_path / "found")
    found = json.loads((tmp_path / "found").read_text())
    environment = found.pop("environment")
    assert "hunter2" not in json.dumps(environment)
    assert {name for name in environment if name.startswith("EDGETRAIN_")} == {
        "EDGETRAIN_OUTPUTS",
        "EDGETRAIN_INPUT_IMAGES",
        "EDGETRAIN_PARAMS",
        "EDGETRAIN_SEED",
    }
    assert environment["EDGETRAIN_INPUT_IMAGES"] == "/edgetrain/inputs/images"
    assert {name: environment[name] for name in SILENT} == SILENT
    assert environment["PYTHONHASHSEED"] == environment["EDGETRAIN_SEED"] == "7"
    assert environment["MLFLOW_TRACKING_URI"] == "sqlite:////edgetrain/outputs/mlflow.db"
    assert found.pop("cwd") == "/edgetrain/code"
    assert found.pop("read") == "1"
    assert found.pop("processes") <= 3
    seen = set(json.loads(found.pop("root").replace("'", '"')))
    assert "var" not in seen and "edgetrain" in seen
    # The interpreter may lie below the home folder; then the way to it is there, and nothing else.
    visible_home = found.pop("home")
    assert visible_home.startswith("refused") or "ssh" not in visible_home
    assert not (Path.home() / ".bashrc").exists() or ".bashrc" not in visible_home
    assert {name: said for name, said in found.items() if not said.startswith("refused")} == {"ptrace": "None"}
    assert [entry.name for entry in data.iterdir()] == ["a.csv"]
    outside = target.folder(made.id) / "outputs" / "model.txt"
    assert outside.stat().st_uid == os.getuid()


def test_scratch_is_bounded(target: LocalTarget, tmp_path: Path) -> None:
    source = """
    for place in ("/tmp/x", "/dev/shm/x"):
        try:
            with open(place, "wb") as file:
                for _ in range(64):
                    file.write(bytes(2**20))
        except OSError as error:
            print(place, error.strerror)
    """
    limits = RunLimits(timeout=300, tmp=8 * 2**20, shm=4 * 2**20)
    state, log = play(target, tmp_path, source, limits=limits)
    assert state.exit_code == 0
    assert log == ["/tmp/x No space left on device", "/dev/shm/x No space left on device"]


def test_no_namespace_can_be_made_inside(target: LocalTarget, tmp_path: Path) -> None:
    source = """
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
    print(libc.unshare(CLONE_NEWUSER | CLONE_NEWNET))
    """
    state, log = play(target, tmp_path, source)
    assert (state.exit_code, log) == (0, ["-1"])


def test_a_sandbox_that_does_not_hold_starts_nothing(
    target: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaky(program: str, flags: Sequence[str], **rest: Any) -> list[str]:
        return arguments(program, [*flags, "--share-net"], **rest)

    monkeypatch.setattr(prepare, "arguments", leaky)
    state, log = play(target, tmp_path, "print('it ran')")
    assert (state.ended_by, state.exit_code, state.level) == ("sandbox", None, EgressLevel.ADVISORY)
    assert "network" in state.message
    assert state.isolation["network"] is False and state.isolation["pidNamespace"] is True
    assert log == []


def test_a_sandbox_that_fails_later(target: LocalTarget, tmp_path: Path) -> None:
    real = default_program()
    wrapper = tmp_path / "bwrap"
    wrapper.write_text(
        f'#!/bin/sh\ncase "$*" in *edgetrain-probe*) exec {real} "$@";; esac\necho broken: /site/doe >&2; exit 1\n'
    )
    wrapper.chmod(0o755)
    compute = LocalCompute(
        name="x", state=target.state, allow_unsandboxed=False, capacity={}, bwrap=lambda: str(wrapper)
    )
    made = script(target, tmp_path, "print('it ran')", require_enforced=True)
    compute.start(made)
    state = settle(compute, made.id)
    assert (state.ended_by, state.exit_code) == ("sandbox", None)
    assert state.message == "the sandbox could not be made: broken: [...]"
    assert list(compute.logs(made.id)) == ["broken: /site/doe"]
