"""An edge VM on this machine: own network, processes, file systems, users, sshd and podman. Needs root.

It is a set of namespaces over the machine's own root, which it sees read-only. Its network is a veth pair on
198.51.100.0/24 (a documentation range, RFC 5737) with no route beyond it: a service of this machine (`bind=
"0.0.0.0"`) is reached at `host_address`. /tmp, /home, /etc and the like are its own, so
nothing that was written on this machine is on the VM unless it was copied there. Its clock is the machine's.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from testbed.part import READY, Part, PartFailed, sweep_cgroups, until
from testbed.vm_disk import prepare

NETWORK = ipaddress.ip_network("198.51.100.0/24")
INIT = Path(__file__).with_name("vm_init.py")
CHECKOUT = Path(__file__).parents[2]
HOST_ADDRESSES = tuple(str(next(net.hosts())) for net in NETWORK.subnets(new_prefix=30))
COMMANDS = ("ip", "nsenter", "openssl", "podman", "runc", "ssh-keygen", "sshd", "unshare")


class Vm(Part):
    """One VM; `Vm(behind=jump)` is reached through the VM `jump` only.

    Users are `root`, for whom podman works with all limits, and `edgetrain`, who has no rights. Both sign in with
    `private_key`; with `password` they may also sign in by it. With `docker` a command `docker` is podman.
    """

    def __init__(
        self, name: str = "edge-vm", *, behind: Vm | None = None, password: str = "", docker: bool = False
    ) -> None:
        super().__init__("vm")
        self.name = name
        self.behind = behind
        self.username = "root"
        self.port = 22
        self.boot_id = ""
        self.address = self.host_address = self.network = ""
        self.private_key = self.folder / "key"
        self.disk = self.folder / "disk"
        self.host_keys = prepare(self.disk, self.private_key, password, docker)
        self._link = ""
        self._unshare: subprocess.Popen[bytes] | None = None
        self._pid = 0

    # Power

    def start(self) -> None:
        """Boot, and wait until sshd answers."""
        self.boot_id = str(uuid.uuid4())
        # The checkout is hidden so that nothing works on the VM that was not brought there.
        settings = {"name": self.name, "boot_id": self.boot_id, "disk": str(self.disk), "hide": [str(CHECKOUT)]}
        command = ["unshare", "--fork", "--kill-child=KILL", "--pid", "--mount-proc", "--net", "--uts", "--ipc"]
        command += ["/usr/bin/python3", "-ISs", str(INIT), json.dumps(settings)]
        log = self.folder / "console.log"
        with log.open("ab") as console:
            self._unshare = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=console, start_new_session=True
            )
        assert self._unshare.stdout is not None
        if self._unshare.stdout.readline() != b"ready\n":
            self.stop()
            raise PartFailed(f"the VM did not boot:\n{log.read_text(errors='replace')[-2000:]}")
        self._pid = _child_of(self._unshare.pid)
        self._connect()
        self.start_sshd()

    def stop(self) -> None:
        """Power off at once: all processes and mounts are gone, the disk stays."""
        if self._unshare is not None:
            with contextlib.suppress(ProcessLookupError):
                if self._pid:
                    os.kill(self._pid, signal.SIGKILL)
                else:
                    self._unshare.kill()
            for pipe in (self._unshare.stdin, self._unshare.stdout):
                if pipe is not None:
                    pipe.close()
            self._unshare.wait(READY)
            self._unshare, self._pid = None, 0
        sweep_cgroups(self.disk)

    def reboot(self) -> None:
        """Power off at once and boot again: same address, host keys and disk, another boot id."""
        self.stop()
        self.start()

    # Network

    def cut(self) -> None:
        """Take the link down: packets vanish, nobody is told."""
        self._beside("ip", "link", "set", self._link, "down")

    def restore(self) -> None:
        """Bring the link up again."""
        self._beside("ip", "link", "set", self._link, "up")

    def _connect(self) -> None:
        """Lay the veth pair. The name of its end is its subnet's number, so that no two VMs get the same one."""
        numbers = list(range(len(HOST_ADDRESSES)))
        random.shuffle(numbers)
        if self.address:
            numbers = [HOST_ADDRESSES.index(self.host_address)]
            # The kernel takes the last start's link away a moment after its namespace has gone.
            until(lambda: f" {self.host_address}/" not in self._addresses(), "the link of the last start to go")
        taken = self._addresses()
        for number in numbers:
            near = HOST_ADDRESSES[number]
            link = f"etvm{number}"
            if f" {near}/" in taken or (self.behind is not None and near == self.behind.host_address):
                continue
            add = ["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(self._pid)]
            if subprocess.run(add, capture_output=True, check=False).returncode == 0:
                break
        else:
            raise PartFailed(f"all subnets of {NETWORK} are taken")
        self._link = link
        self.host_address = near
        self.address = str(ipaddress.ip_address(near) + 1)
        self.network = f"{ipaddress.ip_address(near) - 1}/30"
        if self.behind is not None:
            _checked("ip", "link", "set", link, "netns", str(self.behind._pid))
        self._beside("ip", "address", "add", f"{self.host_address}/30", "dev", link)
        self._beside("ip", "link", "set", link, "up")
        inside = ("nsenter", f"--net=/proc/{self._pid}/ns/net")
        _checked(*inside, "ip", "address", "add", f"{self.address}/30", "dev", "eth0")
        _checked(*inside, "ip", "link", "set", "eth0", "up")
        # This machine's end of any other VM's link is this machine too, so that one address serves many VMs.
        _checked(*inside, "ip", "route", "add", str(NETWORK), "via", self.host_address)

    def _addresses(self) -> str:
        return self._output("ip", "-o", "-4", "address")

    def _beside(self, *command: str) -> None:
        """Run a command where the other end of the link is: on this machine, or on the jump host."""
        prefix = () if self.behind is None else ("nsenter", f"--net=/proc/{self.behind._pid}/ns/net")
        _checked(*prefix, *command)

    def _output(self, *command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    # sshd

    def start_sshd(self) -> None:
        """Start sshd, and wait until it listens."""
        # A port of another namespace can't be asked from here when the VM is behind another: ask the log.
        log = self.path("/var/log/sshd.log")
        seen = len(log.read_bytes()) if log.exists() else 0
        self.run(["/usr/sbin/sshd", "-f", "/etc/ssh/sshd_config", "-E", "/var/log/sshd.log"])
        until(lambda: b"Server listening" in log.read_bytes()[seen:], "sshd to listen")

    def stop_sshd(self) -> None:
        """Kill sshd and the sessions that it serves; what they started in the background goes on."""
        for pid, command in self.processes().items():
            if command.startswith("sshd:") or command.split(" ")[0].endswith("/sshd"):
                self.kill(pid)

    def restart_sshd(self) -> None:
        """Kill sshd with its sessions and start it again."""
        self.stop_sshd()
        self.start_sshd()

    def ssh(self, command: str, *, user: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command line by OpenSSH's client, as a check from outside of what is built here."""
        known = self.folder / "known_hosts"
        known.write_text("".join(f"{self.address} {key}\n" for key in self.host_keys))
        options = ["-F", "none", "-i", str(self.private_key), "-o", f"UserKnownHostsFile={known}"]
        options += ["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=5"]
        return subprocess.run(
            ["ssh", *options, f"{user or self.username}@{self.address}", command],
            capture_output=True,
            text=True,
            check=False,
        )

    # Console: what a person could do who stands before the VM

    def run(
        self,
        command: Sequence[str],
        *,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 300.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the VM as root, not over its network. Raises CalledProcessError if `check`.

        Raises TimeoutExpired after `timeout` seconds.
        """
        clean = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        inside = ["nsenter", f"--target={self._pid}", "--mount", "--net", "--pid", "--uts", "--ipc", "--wd=/"]
        done = subprocess.run(
            [*inside, *command],
            input=input or "",
            capture_output=True,
            text=True,
            env={**clean, **(env or {})},
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            print(done.stdout[-4000:], done.stderr[-4000:], file=sys.stderr)
            done.check_returncode()
        return done

    def path(self, place: str) -> Path:
        """A file or folder of the VM as this machine reaches it, to read and to write."""
        return Path(f"/proc/{self._pid}/root{place}")

    def processes(self) -> dict[int, str]:
        """All processes of the VM, those in containers too: the pid there, and the command line."""
        found = {}
        for folder in self.path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it may end while it is looked at
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(folder.name)] = line.strip()
        return found

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process by its pid on the VM; one that has ended is no error."""
        self.run(["/bin/sh", "-c", 'kill -"$1" "$2"', "kill", str(int(number)), str(pid)], check=False)

    def limit_disk(self, place: str, size: str) -> None:
        """Mount a small file system, such as "64M", over a folder, which is made; a reboot loses it."""
        self.run(["mkdir", "-p", place])
        self.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "small", place])

    def trust_registry(self, name: str, ca_bundle: str = "") -> None:
        """Let podman pull from the registry `host:port`: with the authority's PEM file, or over plain http."""
        if ca_bundle:
            folder = self.path("/etc/containers/certs.d") / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "ca.crt").write_bytes(Path(ca_bundle).read_bytes())
        else:
            drop_in = self.path("/etc/containers/registries.conf.d") / f"{name.replace(':', '-')}.conf"
            drop_in.parent.mkdir(parents=True, exist_ok=True)
            drop_in.write_text(f'[[registry]]\nlocation = "{name}"\ninsecure = true\n')


@cache
def works() -> str:
    """Empty where VMs with podman work on this machine; else the reason why they don't, in a line."""
    if os.geteuid() != 0:
        return "not root"
    for command in COMMANDS:
        if shutil.which(command) is None:
            return f"{command} is not installed"
    try:
        with Vm("probe") as vm:
            done = vm.run(["podman", "info"], check=False)
    except (OSError, PartFailed, TimeoutError, subprocess.SubprocessError) as error:
        return str(error).splitlines()[0]
    return "" if done.returncode == 0 else f"podman does not work: {done.stderr[:200]}"


def _child_of(parent: int) -> int:
    """The one child of a process. Raises PartFailed if there is none."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"\nPPid:\t{parent}\n" in status.read_text():
                return int(status.parent.name)
    raise PartFailed("the VM's first process has ended")


def _checked(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PartFailed(f"{' '.join(command)}: {done.stderr.strip()}")
