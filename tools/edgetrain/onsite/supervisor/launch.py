"""Runs as the first process of a run: observes the isolation in force, waits for leave, becomes the command.

A script of its own (standard library only, Python 3.9 or later), started as
`python -I -S launch.py CONFIG`, CONFIG being JSON: `command`, `limits` (bytes or counts by name of the
resource), `hidden` (host paths that must not be seen), `writable` (mount points that may be written), `guard`
(no sandbox ends the run's processes: do it here). Without `command` it only reports. The report can't be
altered by the command, which isn't started yet.

There are two channels. Without `channel`, `report` and `go` are file descriptors. With `stdio` (containers,
which inherit none) CONFIG is `-` and comes as the first line of the standard input, the report is the first
line of the standard output, and leave is one byte more of input, which then stays open: its end is the end of
the supervisor, and so of the run. Further keys there: `env` (all that the command gets), `mounts` (all mount
points that there may be), `asked` (`memory` in bytes, `pids`, `cpus`, `gpus`). The report then is `isolation`,
`observed` (figures), `python` and `unexpected`.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
NEW_USER = 0x10000000
# System calls by machine: `arch` as the kernel's audit names it, those that are refused (to make or enter
# namespaces, to mount, to trace, and to load programs into the kernel), `clone` and `clone3`.
CALLS = {
    "x86_64": (0xC000003E, (101, 165, 166, 155, 272, 308, 298, 321, 323, 248, 249, 250), 56, 435),
    "aarch64": (0xC00000B7, (117, 40, 39, 41, 97, 268, 241, 280, 282, 217, 218, 219), 220, 435),
}
PR_SET_CHILD_SUBREAPER = 36
REFUSED = 125
# Addresses that are kept for documentation: connecting a datagram socket only looks for a route.
OUTSIDE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
CGROUPS = Path("/sys/fs/cgroup")
# Where the kernel's own file systems are; and what engines put into every container.
KERNEL_PLACES = ("/dev", "/proc", "/sys")
ENGINE_FILES = {f"/etc/{name}" for name in ("hosts", "hostname", "resolv.conf", "passwd", "group")}
ENGINE_FILES |= {"/", "/run/.containerenv", "/sbin/docker-init", "/run/podman-init", "/dev/init"}
# Where GPU drivers are mounted from the host, read-only.
GPU_PLACES = ("/usr/", "/lib/", "/lib64/", "/etc/", "/run/nvidia", "/var/run/nvidia")
LIMITS = {"memory": "memoryLimit", "pids": "pidsLimit", "cpus": "cpuLimit"}
KERNEL = ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger")


def without_network() -> bool:
    """Whether there is no interface but loopback, and no route to the outside."""
    if any(name != "lo" for _, name in socket.if_nameindex()):
        return False
    for family, address in OUTSIDE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as attempt:
                attempt.connect((address, 9))
        except OSError:
            continue
        return False
    return True


def own_processes() -> bool:
    """Whether no process is seen but this one and what made its namespace."""
    seen = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    return seen <= {1, os.getpid(), os.getppid()} and os.getpid() < 16


def mounts() -> list[tuple[str, bool]]:
    """All mount points, and whether each is mounted read-only."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    fields = [line.split()[4:6] for line in text.splitlines()]
    return [(point, "ro" in options.split(",")) for point, options in fields]


def below(point: str, places: tuple[str, ...]) -> bool:
    """Whether the path is one of `places`, or in one."""
    return any(point == place or point.startswith(place + "/") for place in places)


def read_only(writable: list[str]) -> bool:
    """Whether every mount but devices and `writable` is read-only, or at least closed to this process: engines
    leave single files, and the tops of the kernel's own file systems, to their owner."""
    for point, closed in mounts():
        if closed or point in writable or point.startswith("/dev/"):
            continue
        if Path(point).is_dir():
            if not below(point, KERNEL_PLACES) or os.access(point, os.W_OK):
                return False
        elif not below(point, KERNEL_PLACES) and os.access(point, os.W_OK):
            return False
    return True


def without_privileges() -> bool:
    """Whether no capability is held or can be gained, and the kernel's settings can't be written."""
    with Path("/proc/self/status").open(encoding="utf-8") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    caps = [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
    return status["NoNewPrivs"] == "1" and not any(caps) and not any(os.access(path, os.W_OK) for path in KERNEL)


def own_cgroup(controller: str, old: str, new: str) -> str:
    """The text of a file of this process's cgroup, `old` in version 1 and `new` in version 2; empty if there is
    none. Inside a container the top of the mount is the container's own cgroup."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, names, path = line.split(":", 2)
        name, top = (old, CGROUPS / controller) if names else (new, CGROUPS)
        if names and controller not in names.split(","):
            continue
        for place in (top / path.lstrip("/"), top):
            with contextlib.suppress(OSError):
                return (place / name).read_text(encoding="ascii")
    return ""


def figures() -> dict[str, float]:
    """The limits of this process's cgroup that are set: `memory` in bytes, `pids`, `cpus`."""
    found = {
        "memory": own_cgroup("memory", "memory.limit_in_bytes", "memory.max").strip(),
        "pids": own_cgroup("pids", "pids.max", "pids.max").strip(),
    }
    quota = own_cgroup("cpu", "cpu.cfs_quota_us", "cpu.max").split()
    period = quota[1:] or own_cgroup("cpu", "cpu.cfs_period_us", "cpu.max").split()
    result = {name: float(text) for name, text in found.items() if text.isdigit()}
    if quota and quota[0].isdigit() and period:
        result["cpus"] = int(quota[0]) / int(period[0])
    return result


def killed_for_memory() -> bool:
    """Whether the kernel ended any process of this cgroup for want of memory."""
    text = own_cgroup("memory", "memory.oom_control", "memory.events")
    return any(line.split()[0] == "oom_kill" and line.split()[1] != "0" for line in text.splitlines())


def without_root() -> bool:
    """Whether this is not root, or root of a user namespace only."""
    first = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    return os.geteuid() != 0 or first[1] != "0"


def seccomp() -> bool:
    """Whether system calls are filtered."""
    return "\nSeccomp:\t2" in Path("/proc/self/status").read_text(encoding="utf-8")


def gpus() -> int:
    """How many GPU devices there are."""
    found = [entry.name for entry in Path("/dev").iterdir()]
    return len([name for name in found if name.startswith("nvidia") and name[len("nvidia") :].isdigit()])


def unexpected(config: dict[str, Any]) -> list[str]:
    """Mount points that nobody asked for."""
    known = {*config["mounts"], *config["writable"]}
    found = [point for point, _ in mounts() if point not in known and not below(point, KERNEL_PLACES)]
    gpu = GPU_PLACES if config["asked"].get("gpus") else ()
    return [point for point in found if point not in ENGINE_FILES and not point.startswith(tuple(gpu))]


def observe(config: dict[str, Any]) -> dict[str, bool]:
    """Each restriction, and whether it is in force for this process."""
    return {
        "network": without_network(),
        "pidNamespace": own_processes(),
        "readOnly": read_only(config["writable"]),
        "hostHidden": not any(os.path.lexists(path) for path in config["hidden"]),
        "noPrivileges": without_privileges(),
    }


def observe_container(config: dict[str, Any]) -> dict[str, Any]:
    """The same and more, with what is needed to explain it. A limit counts if it is as asked or stricter."""
    isolation, limits, strange = observe(config), figures(), unexpected(config)
    isolation["hostHidden"] = isolation["hostHidden"] and not strange
    isolation.update(notRoot=without_root(), seccomp=config["filtered"], noNamespaces=without_namespaces())
    for name, asked in config["asked"].items():
        if name == "gpus":
            isolation["gpus"] = gpus() >= asked
        else:
            isolation[LIMITS[name]] = name in limits and limits[name] <= asked * (1 + 1e-6)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return {"isolation": isolation, "observed": limits, "python": version, "unexpected": strange}


def limit(limits: dict[str, int]) -> None:
    """Bound this process and all that it starts; never above what is allowed already."""
    for name, wanted in limits.items():
        kind = getattr(resource, "RLIMIT_" + name)
        hard = resource.getrlimit(kind)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))


def become(command: str, env: dict[str, str] | None = None) -> NoReturn:
    """Replace this process by the command."""
    # Python ignores these two; the command is to meet them as any program does.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    os.execve("/bin/sh", ["/bin/sh", "-c", command], os.environ if env is None else env)  # noqa: S606 - the contract


def prctl(option: int, value: int, pointer: Any = 0) -> None:
    """The system call; OSError if it fails."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(option, value, pointer, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def close_kernel() -> None:
    """Refuse system calls that no training needs, for this process and all that it starts: podman's own filter lets
    a script be root of a namespace of its own. Where that can't be done, what is observed tells so."""
    import ctypes
    import platform
    import struct

    arch, refused, clone, clone3 = CALLS[platform.machine()]
    load, equal, above, has, give = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF: LD|W|ABS, JEQ, JGE, JSET, RET
    # In the end: the look at `clone`, then allow, "not permitted", "not there" (the library then takes `clone`).
    first = 4 + len(refused) + 2
    allow, deny, absent = first + 2, first + 3, first + 4
    lines = [(load, 0, 0, 4), (equal, 0, deny - 2, arch), (load, 0, 0, 0), (above, deny - 4, 0, 0x40000000)]
    for number in refused:
        lines.append((equal, deny - len(lines) - 1, 0, number))
    lines.append((equal, absent - len(lines) - 1, 0, clone3))
    lines.append((equal, 0, allow - len(lines) - 1, clone))
    lines += [(load, 0, 0, 16), (has, 1, 0, NEW_USER), (give, 0, 0, 0x7FFF0000)]
    lines += [(give, 0, 0, 0x00050000 | 1), (give, 0, 0, 0x00050000 | 38)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(lines), ctypes.addressof(code)))
    prctl(PR_SET_SECCOMP, 2, program)


def without_namespaces() -> bool:
    """Whether no process can be made root of a namespace of its own; tried."""
    try:
        import ctypes

        child = os.fork()
        if child == 0:
            os._exit(int(ctypes.CDLL(None).unshare(NEW_USER) == 0))
        return os.waitpid(child, 0)[1] == 0
    except (ImportError, OSError, AttributeError):
        return False


def end_children() -> None:
    """Kill all processes below this one: orphans come to it, as it is their subreaper."""
    while True:
        listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
        children = [int(pid) for pid in listed.split()]
        if not children:
            return
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def stand_guard(command: str, parent: int) -> NoReturn:
    """Run the command below this process, and see to it that nothing outlives it or the supervisor."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)

    def end(number: int, _frame: object) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)
        end_children()
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(REFUSED)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        become(command)
    while True:
        pid, status = os.wait()
        if pid == child:
            break
    end_children()
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def end_others(number: int) -> None:
    """A signal for every process of this namespace but this one."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, number)


def stand_over(command: str, env: dict[str, str]) -> NoReturn:
    """Run the command below this process, a container's first: hand on SIGTERM, which the first process of a
    namespace would not feel, and end everything when the command ends or the standard input does."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        prctl(PR_SET_DUMPABLE, 0)  # the command must not be able to trace, and so to halt, this process
        prctl(PR_SET_CHILD_SUBREAPER, 1)  # the first process may be one of the engine's
    asked = threading.Event()

    def ask(_number: int, _frame: object) -> None:
        asked.set()
        end_others(signal.SIGTERM)

    child = os.fork()
    if child == 0:
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        become(command, env)

    def watch() -> None:
        while os.read(0, 1):
            continue
        end_others(signal.SIGKILL)
        os._exit(REFUSED)

    signal.signal(signal.SIGTERM, ask)
    threading.Thread(target=watch, daemon=True).start()
    code = 0
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.wait()
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                if not asked.is_set():
                    break
                # Others may still be tidying up; the engine does not wait for ever.
    end_others(signal.SIGKILL)
    if code != 0 and killed_for_memory():
        code = -signal.SIGKILL
    os._exit(code if code >= 0 else 128 - code)


def line_of_input() -> bytes:
    """The first line of the standard input, and no byte more."""
    data = b""
    while not data.endswith(b"\n"):
        part = os.read(0, 65536)
        if not part:
            sys.exit(REFUSED)
        data += part
    return data


def main_by_stdio() -> None:
    """Report, wait for leave, stand over the command; all on the standard streams."""
    config = json.loads(line_of_input())
    config["filtered"] = seccomp()  # the engine's own filter; ours comes next
    with contextlib.suppress(ImportError, OSError, AttributeError, KeyError):
        close_kernel()
    found = observe_container(config)
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    if "command" not in config or os.read(0, 1) != b"g" or not found["isolation"]["pidNamespace"]:
        sys.exit(REFUSED if "command" in config else 0)
    limit(config["limits"])
    stand_over(config["command"], config["env"])


def main() -> None:
    """Report, wait for leave, become the command."""
    if sys.argv[1] == "-":
        main_by_stdio()
        return
    config = json.loads(sys.argv[1])
    with os.fdopen(config["report"], "w", encoding="utf-8") as file:
        json.dump(observe(config), file)
    if "command" not in config:
        return
    leave = os.read(config["go"], 1)
    os.close(config["go"])
    if leave != b"g":
        sys.exit(REFUSED)
    limit(config["limits"])
    if config["guard"]:
        stand_guard(config["command"], config["parent"])
    become(config["command"])


if __name__ == "__main__":
    main()
