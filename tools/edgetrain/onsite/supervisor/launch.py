"""Runs as the first process of a run: observes the isolation in force, waits for leave, becomes the command.

A script of its own (standard library only, Python 3.9 or later), started as
`python -I -S launch.py CONFIG`, CONFIG being JSON: `report` and `go` are file descriptors; `command`,
`limits` (bytes or counts by name of the resource), `hidden` (host paths that must not be seen), `writable`
(mount points that may be written), `guard` (no sandbox ends the run's processes: do it here).
Without `command` it only reports. The report can't be altered by the command, which isn't started yet.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
REFUSED = 125
# Addresses that are kept for documentation: connecting a datagram socket only looks for a route.
OUTSIDE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
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


def read_only(writable: list[str]) -> bool:
    """Whether every mount but devices and `writable` is read-only."""
    with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            point, options = line.split()[4:6]
            if point in writable or point.startswith("/dev/"):
                continue
            if "ro" not in options.split(","):
                return False
    return True


def without_privileges() -> bool:
    """Whether no capability is held or can be gained, and the kernel's settings can't be written."""
    with Path("/proc/self/status").open(encoding="utf-8") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    caps = [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")]
    return status["NoNewPrivs"] == "1" and not any(caps) and not any(os.access(path, os.W_OK) for path in KERNEL)


def observe(config: dict[str, Any]) -> dict[str, bool]:
    """Each restriction, and whether it is in force for this process."""
    return {
        "network": without_network(),
        "pidNamespace": own_processes(),
        "readOnly": read_only(config["writable"]),
        "hostHidden": not any(os.path.lexists(path) for path in config["hidden"]),
        "noPrivileges": without_privileges(),
    }


def limit(limits: dict[str, int]) -> None:
    """Bound this process and all that it starts; never above what is allowed already."""
    for name, wanted in limits.items():
        kind = getattr(resource, "RLIMIT_" + name)
        hard = resource.getrlimit(kind)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))


def become(command: str) -> NoReturn:
    """Replace this process by the command."""
    # Python ignores these two; the command is to meet them as any program does.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    os.execv("/bin/sh", ["/bin/sh", "-c", command])  # noqa: S606 - the contract: a command for the shell


def prctl(option: int, value: int) -> None:
    """The system call; OSError if it fails."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


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


def main() -> None:
    """Report, wait for leave, become the command."""
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
