"""The first process of a testbed VM: gives it file systems of its own, then reaps orphans until its owner ends.

It runs as pid 1 of new namespaces (`unshare`), with the machine's own root as a read-only base. Standard input is
the owner's lifeline: when it closes, this process ends, and the kernel ends all processes and mounts of the VM.
Its one argument is a JSON object: `name`, `boot_id`, `disk` (a folder that outlives a boot), `hide` (folders of the
machine that a VM would not have).
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

# What a VM keeps over a reboot: folder in `disk`, and where it is mounted.
KEPT = {
    "etc": "/etc",
    "root": "/root",
    "home": "/home",
    "srv": "/srv",
    "log": "/var/log",
    "var-tmp": "/var/tmp",  # noqa: S108
    "containers": "/var/lib/containers",
    "local": "/usr/local/bin",
    "tmp": "/tmp",  # noqa: S108
}
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def run(*command: str) -> None:
    """Run one command. Raises CalledProcessError."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def mount(settings: dict[str, object]) -> None:
    """Mount what is the VM's own over the machine's root."""
    disk = Path(str(settings["disk"]))
    for hidden in settings["hide"]:  # type: ignore[attr-defined]
        run("mount", "-t", "tmpfs", "-o", "size=4k,ro", "hidden", str(hidden))
    for name, place in KEPT.items():
        Path(place).mkdir(mode=0o755, parents=True, exist_ok=True)  # no podman was ever run on a fresh machine
        run("mount", "--bind", str(disk / name), place)
    run("mount", "-t", "tmpfs", "-o", "mode=755", "run", "/run")
    run("mount", "-t", "tmpfs", "-o", "mode=1777", "shm", "/dev/shm")  # noqa: S108
    Path("/run/sshd").mkdir(mode=0o755)
    Path("/run/lock").mkdir(mode=0o1777)
    boot_id = Path("/run/boot_id")
    boot_id.write_text(f"{settings['boot_id']}\n")
    run("mount", "--bind", "-o", "ro", str(boot_id), BOOT_ID)
    # Last: what is bound from here before stays writable.
    run("mount", "-o", "remount,bind,ro", "/")


def reap() -> None:
    """Take the exit status of every orphan that has ended."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def main() -> None:
    """Bring the VM up, say so on standard output, and stay."""
    settings = json.loads(sys.argv[1])
    socket.sethostname(settings["name"])
    mount(settings)
    run("ip", "link", "set", "lo", "up")
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # The first process of a pid namespace gets SIGTERM from outside only if it has a handler; none is wanted.
    print("ready", flush=True)
    os.chdir("/")
    while True:
        reap()
        ready, _, _ = select.select([0, wake], [], [])
        if 0 in ready and not os.read(0, 4096):
            return
        if wake in ready:
            os.read(wake, 4096)


if __name__ == "__main__":
    main()
