"""The on-site programs as one content-addressed folder on the machine, and how each is started there."""

from __future__ import annotations

import functools
import hashlib
import io
import tarfile

from edgetrain.onsite import ONSITE

TOO_OLD, UNSAFE, MISSING, DAMAGED, FORBIDDEN = 96, 95, 97, 94, 93
NOT_FOUND = (126, 127)
PYTHON = "python3"
# One line without quotes or signs that some login shell would read. Arguments: work folder, digest, module.
# What other accounts could have written is not run.
_BOOT = (
    "import os,stat,sys;"
    f"sys.version_info<(3,9) and sys.exit({TOO_OLD});"
    "w=os.path.expanduser(sys.argv[1]);"
    f"os.path.lexists(w) or sys.exit({MISSING});"
    "s=os.lstat(w);"
    f"stat.S_ISDIR(s.st_mode) and s.st_uid==os.geteuid() and s.st_mode&18==0 or sys.exit({UNSAFE});"
    't=os.path.join(w,"tools",sys.argv[2]);'
    f"os.path.isdir(t) or sys.exit({MISSING});"
    "sys.path.insert(0,t);"
    "import importlib;"
    'importlib.import_module("onsite."+sys.argv[3]).main()'
)
_RECEIVE = "import sys;exec(sys.stdin.buffer.read(int(sys.argv[1])))"


@functools.cache
def bundle() -> tuple[str, bytes]:
    """The programs as a tar file, the same bytes for the same programs, and its sha256 in hex."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(ONSITE.rglob("*.py")):
            data = path.read_bytes()
            entry = tarfile.TarInfo(f"onsite/{path.relative_to(ONSITE).as_posix()}")
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return hashlib.sha256(buffer.getvalue()).hexdigest(), buffer.getvalue()


def program(work: str, module: str) -> list[str]:
    """The command that starts `main()` of the on-site module, such as `vm.main`; exits with `MISSING` if the
    programs are not there yet."""
    return [PYTHON, "-I", "-S", "-c", _BOOT, work, bundle()[0], module]


def delivery(work: str) -> tuple[list[str], bytes]:
    """The command that takes the programs in, and its input."""
    script = (ONSITE / "vm" / "deploy.py").read_bytes()
    digest, data = bundle()
    return [PYTHON, "-I", "-S", "-c", _RECEIVE, str(len(script)), work, digest], script + data


def folder(work: str) -> str:
    """Where the programs lie on the machine; `~` as in `work`."""
    return f"{work}/tools/{bundle()[0]}/onsite"
