"""Inside a run's container: a script that tries to get at the machine, as a real script would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.errors import Rejected
from edgetrain.core.ports import RunLimits
from edgetrain.providers.ssh import container

from .machine import TOOLS, WORK, Machine, Play

pytestmark = [pytest.mark.long(0.5), pytest.mark.needs("vm", "mmdebstrap", "skopeo")]

TRIES = """
import ctypes, json, os, pathlib, socket, subprocess, sys
found = {}
def attempt(name, what):
    try:
        found[name] = repr(what())[:200]
    except BaseException as error:
        found[name] = "refused: " + type(error).__name__
libc = ctypes.CDLL(None, use_errno=True)
def system(*words):
    if libc.syscall(*words) != 0:
        raise OSError(ctypes.get_errno(), "no")
attempt("write root", lambda: open("/x", "w"))
attempt("write usr", lambda: open("/usr/x", "w"))
attempt("write dev", lambda: open("/dev/x", "w"))
attempt("write code", lambda: open("train.py", "a"))
attempt("write input", lambda: open(os.environ["EDGETRAIN_INPUT_IMAGES"] + "/x", "w"))
attempt("change input", lambda: open(os.environ["EDGETRAIN_INPUT_IMAGES"] + "/a.csv", "a"))
attempt("write environment", lambda: open("/edgetrain/environment/x", "w"))
attempt("write launcher", lambda: open("/edgetrain/launch.py", "a"))
attempt("write log", lambda: open("/edgetrain/log", "a"))
attempt("kernel", lambda: open("/proc/sys/kernel/core_pattern", "w"))
attempt("sysrq", lambda: open("/proc/sysrq-trigger", "w"))
attempt("kernel memory", lambda: open("/proc/kcore", "rb").read(1))
attempt("host files", lambda: os.listdir("HOST_WORK"))
attempt("host key", lambda: open("/etc/ssh/ssh_host_ed25519_key").read())
attempt("shadow", lambda: open("/etc/shadow").read())
attempt("engine", lambda: socket.socket(socket.AF_UNIX).connect("/run/podman/podman.sock"))
attempt("connect", lambda: socket.create_connection(("HOST_ADDRESS", 22), 2))
attempt("outside", lambda: socket.create_connection(("192.0.2.1", 80), 2))
attempt("names", lambda: socket.getaddrinfo("example.org", 443))
attempt("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("mount", lambda: system(165, b"none", b"/tmp", b"tmpfs", 0, None))
attempt("unmount", lambda: system(166, b"/edgetrain/inputs/images", 2))
attempt("trace", lambda: system(101, 16, 1, None, None))
attempt("namespace", lambda: system(272, 0x10000000))
attempt("root", lambda: os.setuid(0))
attempt("device", lambda: os.mknod("/tmp/sda", 0o60600, os.makedev(8, 0)))
attempt("owner", lambda: os.chown("/tmp", 0, 0))
attempt("memory of others", lambda: open("/proc/1/mem", "r+b").read(1))
found["uid"] = [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()]
found["processes"] = len([name for name in os.listdir("/proc") if name.isdigit()])
found["interfaces"] = [name for _, name in socket.if_nameindex()]
found["environment"] = dict(os.environ)
found["cwd"] = os.getcwd()
found["stdin"] = sys.stdin.read()
found["read"] = pathlib.Path(os.environ["EDGETRAIN_INPUT_IMAGES"], "a.csv").read_text()
for name in ("/tmp/x", os.path.expanduser("~/x"), "/dev/shm/x"):
    pathlib.Path(name).write_text("scratch")
pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"], "found.json").write_text(json.dumps(found))
"""
NAMES = (
    *("network", "pidNamespace", "readOnly", "hostHidden", "noPrivileges", "notRoot", "seccomp", "noNamespaces"),
    *("memoryLimit", "pidsLimit", "cpuLimit"),
)


def test_nothing_of_the_machine_can_be_had(machine: Machine, tmp_path: Path) -> None:
    data = machine.vm.path(f"{WORK}/views/a")
    data.mkdir(parents=True)
    (data / "a.csv").write_text("1")
    source = TRIES.replace("HOST_WORK", WORK).replace("HOST_ADDRESS", machine.vm.address)
    limits = RunLimits(timeout=300, memory=256 * 2**20, pids=64, cpus=1)
    run = Play(machine, tmp_path, "tries-1-1", source, inputs={"images": f"{WORK}/views/a"}, limits=limits)
    state = run.play()
    assert state["exit_code"] == 0, [state, run.log]
    assert state["level"] == "enforced"
    assert state["isolation"] == dict.fromkeys(NAMES, True)
    found = json.loads(run.output("found.json"))
    environment = found.pop("environment")
    assert "hunter2" not in json.dumps(environment)
    assert environment["EDGETRAIN_INPUT_IMAGES"] == "/edgetrain/inputs/images"
    assert environment["MLFLOW_TRACKING_URI"] == "sqlite:////edgetrain/outputs/mlflow.db"
    assert environment["EDGETRAIN_PARAMS"] == '{"lr": 0.1}'
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["ORT_DISABLE_TELEMETRY"] == environment["DO_NOT_TRACK"] == "1"
    assert found.pop("cwd") == "/edgetrain/code"
    assert found.pop("read") == "1"
    assert found.pop("stdin") == ""
    assert found.pop("uid") == [65534, 65534, 65534, [65534]]
    assert found.pop("interfaces") == ["lo"]
    assert found.pop("processes") <= 3
    assert {name: said for name, said in found.items() if not said.startswith("refused")} == {}
    assert [entry.name for entry in data.iterdir()] == ["a.csv"]
    assert f"edgetrain-{run.id}" not in machine.containers()


def test_a_file_is_an_input_too(machine: Machine, tmp_path: Path) -> None:
    data = machine.vm.path(f"{WORK}/views/file")
    data.mkdir(parents=True)
    (data / "rows.csv").write_text("1,2")
    (data / "others.csv").write_text("3")
    run = Play(
        machine,
        tmp_path,
        "file-1-1",
        "",
        inputs={"table": f"{WORK}/views/file/rows.csv"},
        single_file=True,
        command='cat {{inputs.table}} && echo && echo "$EDGETRAIN_INPUT_TABLE" && ls {{inputs.table}}/x',
    )
    state = run.play()
    assert state["exit_code"] == 2, [state, run.log]  # a file is no folder
    assert run.log[:2] == ["1,2", "/edgetrain/inputs/table/rows.csv"]


@pytest.mark.parametrize(
    ("option", "broken"),
    [
        (["--network", "none"], {"network"}),
        (["--read-only"], {"readOnly"}),
        (["--cap-drop", "all"], {"noPrivileges"}),
        (["--security-opt", "no-new-privileges"], {"noPrivileges"}),
        (["--user", "65534:65534"], {"notRoot"}),
        (["--memory", f"{256 * 2**20}b", "--memory-swap", f"{256 * 2**20}b"], {"memoryLimit"}),
        (["--pids-limit", "64"], {"pidsLimit"}),
        (["--cpus", "1"], {"cpuLimit"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_was_asked_and_is_not_in_force_keeps_the_run_from_starting(
    machine: Machine,
    tmp_path: Path,
    option: list[str],
    broken: set[str],
) -> None:
    """As an engine would do that leaves an option out."""

    def without(spec: dict[str, Any]) -> None:
        argv = spec["argv"]
        at = next(n for n in range(len(argv)) if argv[n : n + len(option)] == option)
        del argv[at : at + len(option)]

    run_id = f"asked{option[0]}-1".replace("--", "-") + option[-1][:8].replace(":", "")
    limits = RunLimits(timeout=300, memory=256 * 2**20, pids=64, cpus=1)
    run = Play(machine, tmp_path, run_id, "print('it ran')", change=without, limits=limits)
    state = run.play()
    assert state["ended_by"] == "sandbox", [state, run.log]
    missing = {name for name, held in state["isolation"].items() if not held}
    assert missing >= broken
    assert all(name in state["message"] for name in missing & set(run.instructions["require"]))
    assert "it ran" not in run.log
    assert f"edgetrain-{run.id}" not in machine.containers()


@pytest.mark.parametrize(
    ("words", "broken"),
    [
        (["--mount", "type=bind,source=/etc,target=/mnt,readonly"], "hostHidden"),
        (["--mount", "type=bind,source=/srv,target=/mnt"], "readOnly"),
        (["--pid", "host"], "pidNamespace"),
        (["--security-opt", "seccomp=unconfined"], "seccomp"),
    ],
    ids=["read", "write", "processes", "seccomp"],
)
def test_what_the_engine_adds_unasked_keeps_the_run_from_starting(
    machine: Machine,
    tmp_path: Path,
    words: list[str],
    broken: str,
) -> None:
    """As a machine's own settings of the engine could do."""

    def more(spec: dict[str, Any]) -> None:
        spec["argv"][2:2] = words

    run = Play(machine, tmp_path, f"unasked-{broken}-1", "print('it ran')", change=more)
    state = run.play()
    assert (state["ended_by"], state["isolation"][broken]) == ("sandbox", False), [state, run.log]
    assert "it ran" not in run.log
    if "--mount" in words:
        assert "[edgetrain] mounted unasked: /mnt" in run.log


def test_a_container_that_can_not_be_made_is_told(machine: Machine, tmp_path: Path) -> None:
    def wrong(spec: dict[str, Any]) -> None:
        spec["argv"][spec["argv"].index(machine.image.id)] = "sha256:" + "0" * 64

    run = Play(machine, tmp_path, "wrong-1-1", "print('it ran')", change=wrong)
    state = run.play()
    assert state["ended_by"] == "sandbox"
    assert "the sandbox could not be made" in state["message"]
    assert "0000" in state["message"]


def test_another_python_is_refused(machine: Machine, tmp_path: Path) -> None:
    run = Play(machine, tmp_path, "python-1-1", "print('it ran')", python="3.10", environment=f"{WORK}/tools")
    state = run.play()
    assert state["ended_by"] == "environment"
    assert state["message"] == f"the image has Python {machine.python}, the experiment asks for 3.10"


def test_gpus_that_are_not_there_are_refused(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(Rejected) as caught:
        Play(machine, tmp_path, "gpu-1-1", "", limits=RunLimits(timeout=9, gpus=1))
    assert caught.value.reason == "GpuMissing"
    assert "asks for 1 GPU(s) and the machine gives containers 0" in caught.value.message
    assert "nvidia-container-toolkit" in caught.value.fix


def test_the_machine_is_tried_from_inside(machine: Machine) -> None:
    argv = container.probe_argv(machine.engine, machine.image, TOOLS)
    found = machine.ask("attempt", argv=argv, config=container.probe_config())
    assert found["isolation"] == dict.fromkeys(set(NAMES) - {"cpuLimit"}, True)
    assert found["observed"] == {"memory": 2**28, "pids": 64}
    assert found["python"] == machine.python
    argv[argv.index("--network") + 1] = "host"
    found = machine.ask("attempt", argv=argv, config=container.probe_config())
    assert found["isolation"]["network"] is False
