"""The look at a machine's engine: what docker and podman tell of themselves, and GPUs, read as they write them.

The engines here are scripts that print what real ones printed; `tests/edge` asks real ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.errors import Rejected, Unavailable
from edgetrain.core.ports import RunLimits
from edgetrain.onsite import ONSITE
from edgetrain.onsite.engine import probe
from edgetrain.providers.ssh.engine import Engine

# As docker 20.10 prints them, shortened to what is read and a little more.
DOCKER = {
    "ServerVersion": "20.10.24",
    "CgroupVersion": "1",
    "MemoryLimit": True,
    "PidsLimit": True,
    "CpuCfsQuota": True,
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default"],
    "Runtimes": {"runc": {"path": "runc"}},
}
# As podman 4.3 does.
PODMAN = {
    "host": {
        "cgroupVersion": "v2",
        "cgroupControllers": ["memory", "pids"],
        "security": {"rootless": True, "seccompEnabled": True},
    },
    "version": {"Version": "4.3.1"},
}
LIMITS = RunLimits(timeout=60, memory=2**28, pids=64)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that is all of PATH, but for the system's own tools."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/sbin:/sbin:/bin")
    monkeypatch.setattr(probe, "CDI_FOLDERS", (str(tmp_path / "cdi"),))
    return folder


def program(folder: Path, name: str, said: dict[str, str], code: int = 0) -> None:
    """A program that answers by its first word."""
    cases = "".join(f"'{word}') cat <<'END'\n{text}\nEND\n;;\n" for word, text in said.items())
    (folder / name).write_text(
        f'#!/bin/sh\ncase "$1" in\n{cases}*) echo "no daemon at /run/x.sock" >&2; exit 1;;\nesac\nexit {code}\n'
    )
    (folder / name).chmod(0o755)


def docker(folder: Path, **changes: Any) -> None:
    program(folder, "docker", {"--version": "Docker version 20.10.24", "info": json.dumps({**DOCKER, **changes})})


def test_docker(programs: Path, tmp_path: Path) -> None:
    docker(programs)
    engine = Engine.of(probe.probe("docker", tmp_path / "not there yet"))
    assert (engine.kind, engine.version, engine.cgroup, engine.seccomp) == ("docker", "20.10.24", 1, True)
    assert engine.gpus == ()
    engine.check(LIMITS, 2**28)
    assert probe.probe("docker", tmp_path)["free"] > 0


@pytest.mark.parametrize("option", ["name=rootless", "name=userns"])
def test_docker_that_maps_users_is_refused(programs: Path, tmp_path: Path, option: str) -> None:
    docker(programs, SecurityOptions=[option])
    engine = Engine.of(probe.probe("docker", tmp_path))
    with pytest.raises(Rejected) as caught:
        engine.check(LIMITS, None)
    assert caught.value.reason == "EngineNotServed"


def test_rootless_podman_needs_the_controllers(programs: Path, tmp_path: Path) -> None:
    program(programs, "podman", {"--version": "podman version 4.3.1", "info": json.dumps(PODMAN)})
    engine = Engine.of(probe.probe("podman", tmp_path))
    assert (engine.kind, engine.rootless, engine.cgroup) == ("podman", True, 2)
    assert "--userns" in engine.own()
    engine.check(LIMITS, 2**28)
    with pytest.raises(Rejected) as caught:
        engine.check(RunLimits(timeout=60, cpus=2), 2**28)
    assert caught.value.reason == "LimitNotServed"
    assert "cpu" in caught.value.message
    old = Engine(**{**engine.__dict__, "cgroup": 1})
    with pytest.raises(Rejected) as caught:
        old.check(LIMITS, 2**28)
    assert "memory, pids" in caught.value.message


def test_a_client_without_its_engine_does_not_work(programs: Path, tmp_path: Path) -> None:
    program(programs, "docker", {"--version": "Docker version 28.2.2"})
    found = probe.probe("docker", tmp_path)
    assert (found["works"], found["message"]) == (False, "no daemon at [...]")
    # Newer clients print an error as part of the answer, and leave with 0.
    docker(programs, ServerVersion="", ServerErrors=["Cannot connect to the Docker daemon"])
    found = probe.probe("docker", tmp_path)
    assert found["works"] is False
    with pytest.raises(Unavailable) as caught:
        Engine.of(found)
    assert caught.value.reason == "EngineMissing"
    assert "Cannot connect" in caught.value.message


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"host": 1}', "nonsense"])
def test_an_answer_that_makes_no_sense_is_told(programs: Path, tmp_path: Path, text: str) -> None:
    program(programs, "podman", {"--version": "podman version 9", "info": text})
    assert probe.probe("podman", tmp_path)["message"] == "it tells of itself what can't be read"


def test_docker_gives_gpus_if_its_toolkit_is_there(programs: Path, tmp_path: Path) -> None:
    program(programs, "nvidia-smi", {"--query-gpu=index": "0\n1"})
    docker(programs)
    assert probe.probe("docker", tmp_path)["gpus"] == []
    docker(programs, Runtimes={"runc": {}, "nvidia": {"path": "nvidia-container-runtime"}})
    engine = Engine.of(probe.probe("docker", tmp_path))
    assert engine.gpus == ("0", "1")
    assert engine.devices(2) == ["--gpus", '"device=0,1"']
    assert engine.devices(0) == []
    engine.check(RunLimits(timeout=60, gpus=2), 2**28)
    with pytest.raises(Rejected) as caught:
        engine.check(RunLimits(timeout=60, gpus=3), 2**28)
    assert caught.value.reason == "GpuMissing"


CDI_YAML = """\
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: "0"
- name: "1"
- name: all
kind: nvidia.com/gpu
"""
CDI_JSON = json.dumps({"kind": "nvidia.com/gpu", "devices": [{"name": "0"}, {"name": "all"}]}, indent=2)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("nvidia.yaml", CDI_YAML, ("nvidia.com/gpu=0", "nvidia.com/gpu=1")),
        ("nvidia.json", CDI_JSON, ("nvidia.com/gpu=0",)),
        ("other.yaml", CDI_YAML.replace("nvidia.com/gpu", "example.com/net"), ()),
    ],
)
def test_podman_gives_gpus_by_cdi(
    programs: Path, tmp_path: Path, name: str, text: str, expected: tuple[str, ...]
) -> None:
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / name).write_text(text)
    program(programs, "podman", {"--version": "podman version 4.3.1", "info": json.dumps(PODMAN)})
    engine = Engine.of(probe.probe("podman", tmp_path))
    assert engine.gpus == expected
    assert engine.devices(1) == [word for gpu in expected[:1] for word in ("--device", gpu)]


def test_the_programs_take_nothing_from_elsewhere(tmp_path: Path) -> None:
    """As on a machine: isolated, from a folder that holds only them."""
    start = "import sys; sys.path.insert(0, sys.argv[1]); from onsite.engine.main import main; main()"
    request = json.dumps({"verb": "environments", "work": str(tmp_path)}) + "\n"
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "onsite").symlink_to(ONSITE)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", start, str(tmp_path / "tools")],
        input=request,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"ok": []}
