"""The disk of a testbed VM: its /etc with users, sshd and podman set up, and its empty folders."""

from __future__ import annotations

import shutil
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

from testbed.vm_init import KEPT

USER = "edgetrain"
# The machine's /etc is the VM's to begin with, but for what would be the machine's secrets or name.
LEFT_OUT = (
    "shadow*",
    "gshadow*",
    "*-",
    "ssh",
    "ssl/private",
    "docker",
    "containers",
    "resolv.conf",
    "hostname",
    "hosts",
)

SSHD = """\
Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys/%u
UsePAM no
StrictModes no
PermitRootLogin {root}
PasswordAuthentication {password}
KbdInteractiveAuthentication no
AllowTcpForwarding yes
MaxStartups 200
MaxSessions 200
LoginGraceTime 20
PrintMotd no
UseDNS no
PidFile /run/sshd.pid
LogLevel VERBOSE
Subsystem sftp internal-sftp
"""
# crun fails on mixed cgroup hierarchies; there is neither systemd nor journald.
CONTAINERS = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
log_driver = "k8s-file"

[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"

[network]
network_backend = "netavark"
"""
STORAGE = """\
[storage]
driver = "overlay"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
"""
DOCKER = '#!/bin/sh\nexec podman "$@"\n'


def prepare(disk: Path, private_key: Path, password: str, docker: bool) -> list[str]:
    """Write the disk and the private key to sign in with; answer the public host keys."""
    for name in KEPT:
        (disk / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var-tmp"):
        (disk / name).chmod(0o1777)
    etc = disk / "etc"
    _copy_etc(etc)
    _users(etc, disk / "home", password)
    host_key = etc / "ssh" / "ssh_host_ed25519_key"
    (etc / "ssh" / "authorized_keys").mkdir(parents=True)
    _keygen(host_key)
    _keygen(private_key)
    for user in ("root", USER):
        shutil.copyfile(f"{private_key}.pub", etc / "ssh" / "authorized_keys" / user)
    words = {"root": "yes", "password": "yes"} if password else {"root": "prohibit-password", "password": "no"}
    (etc / "ssh" / "sshd_config").write_text(SSHD.format(**words))
    _containers(etc / "containers")
    if docker:
        (disk / "local" / "docker").write_text(DOCKER)
        (disk / "local" / "docker").chmod(0o755)
    return [" ".join(Path(f"{host_key}.pub").read_text().split()[:2])]


def _copy_etc(etc: Path) -> None:
    def ignore(folder: str, names: list[str]) -> set[str]:
        inside = Path(folder).relative_to("/etc")
        return {name for name in names if any(fnmatchcase(str(inside / name), pattern) for pattern in LEFT_OUT)}

    shutil.copytree("/etc", etc, symlinks=True, ignore=ignore, dirs_exist_ok=True)
    (etc / "hosts").write_text("127.0.0.1 localhost\n")
    (etc / "resolv.conf").write_text("")


def _users(etc: Path, home: Path, password: str) -> None:
    """Accounts of the system, and one person."""
    system = [
        line for line in (etc / "passwd").read_text().splitlines() if _number(line) < 1000 or "nobody" in line
    ]
    system.append(f"{USER}:x:1000:1000::/home/{USER}:/bin/sh")
    (etc / "passwd").write_text("\n".join(system) + "\n")
    groups = [line for line in (etc / "group").read_text().splitlines() if _number(line) != 1000]
    (etc / "group").write_text("\n".join([*groups, f"{USER}:x:1000:"]) + "\n")
    # "*": no password fits, yet the account is not locked for keys.
    word = _hashed(password) if password else "*"
    shadow = [f"{line.split(':')[0]}:*:19000:0:99999:7:::" for line in system]
    mine = [f"{user}:{word}:19000:0:99999:7:::" for user in ("root", USER)]
    others = [line for line in shadow if line.split(":")[0] not in ("root", USER)]
    (etc / "shadow").touch(mode=0o600)
    (etc / "shadow").write_text("\n".join([*mine, *others]) + "\n")
    for name in ("subuid", "subgid"):
        (etc / name).write_text(f"{USER}:100000:65536\n")
    (home / USER).mkdir(mode=0o700, exist_ok=True)
    shutil.chown(home / USER, 1000, 1000)


def _number(line: str) -> int:
    return int(line.split(":")[2])


def _hashed(password: str) -> str:
    command = ["openssl", "passwd", "-6", "-stdin"]
    return subprocess.run(command, input=password, capture_output=True, text=True, check=True).stdout.strip()


def _keygen(file: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "testbed", "-f", str(file)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _containers(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "containers.conf").write_text(CONTAINERS)
    (folder / "storage.conf").write_text(STORAGE)
    (folder / "registries.conf").write_text("unqualified-search-registries = []\n")
    (folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}\n')
