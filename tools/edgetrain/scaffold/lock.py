"""Pins an experiment's packages with uv: every version, every hash, no address of any package index."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from edgetrain.core.errors import Rejected, Transient, Unavailable, UsageError
from edgetrain.core.problem import shown

EMPTY = "# No packages: {source} names none.\n"
TIMEOUT = 900
MAX_BYTES = 4 * 2**20

# Options that name an index or a folder of this machine: they must not get into git.
_ADDRESS = re.compile(r"\s*(-i|-f|--(default-|extra-)?index(-url)?|--find-links|--trusted-host)\b")
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")

# pip's variables that say the same as uv's.
_ALIASES = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_CERT": "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE": "SSL_CERT_FILE",
}
_OLDER = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}


@dataclass(frozen=True)
class Locked:
    """What became of a lock file: its path, how many packages it pins, and which pins are other than before."""

    path: Path
    packages: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


def lock(folder: Path, requirements: str, python: str, *, upgrade: bool = False) -> Locked:
    """Pin `<name>.in` beside the lock file `requirements`, for Python `python` (minor) and all platforms.

    Pins of the lock that is there are kept where they still fit, unless `upgrade`. UsageError if the source
    is not there, Rejected if no set of wheels fits, Transient if the index can't be asked, Unavailable
    without uv. Nothing is written then.
    """
    target = _inside(folder, requirements)
    source = target.with_suffix(".in")
    if source.is_symlink() or not source.is_file():
        raise UsageError(
            f"{source.name} is not there",
            reason="NoRequirements",
            fix=f"write the packages that training needs into {source}, one a line",
        )
    before = target.read_text(encoding="utf-8") if target.is_file() else ""
    text = source.read_text(encoding="utf-8")
    if any(line.split("#")[0].strip() for line in text.splitlines()):
        after = _without_addresses(_compiled(source, before, python, upgrade))
    else:
        after = EMPTY.format(source=source.name)
    _replace(target, after)
    old, new = pins(before), pins(after)
    return Locked(
        target,
        len(new),
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(name for name in new.keys() & old.keys() if new[name] != old[name])),
    )


def pins(text: str) -> dict[str, str]:
    """Each package's version in a lock file; several where platforms differ."""
    found: dict[str, set[str]] = {}
    for name, version in _PIN.findall(text):
        found.setdefault(name.lower(), set()).add(version)
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}


def environment(outside: Mapping[str, str]) -> dict[str, str]:
    """The environment for uv: pip's index and CA settings count where uv's own are not given."""
    found = dict(outside)
    for theirs, ours in _ALIASES.items():
        value = outside.get(theirs)
        if value and not found.get(ours) and not outside.get(_OLDER.get(ours, "")):
            found[ours] = value
    # A lock is made with the Python at hand; only its version is asked for, which `--python-version` says.
    found["UV_PYTHON_DOWNLOADS"] = "never"
    found["NO_COLOR"] = "1"
    return found


def _inside(folder: Path, requirements: str) -> Path:
    """The lock file's path, which must lie in the experiment's folder without passing a link."""
    target = folder / requirements
    resolved = target.resolve()
    if target.suffix == ".in" or target.is_symlink() or not resolved.is_relative_to(folder.resolve()):
        raise UsageError(
            f"environment.requirements is no lock file of this experiment: {shown(requirements)}",
            reason="BadLockPath",
            fix="name a file in the experiment's folder, such as requirements.lock",
        )
    return target


def _compiled(source: Path, before: str, python: str, upgrade: bool) -> str:
    with TemporaryDirectory(prefix="edgetrain-lock-") as scratch:
        output = Path(scratch) / "requirements.lock"
        if before:
            output.write_text(before, encoding="utf-8")
        command = [
            _uv(), "pip", "compile", "--universal", "--generate-hashes", "--only-binary", ":all:",
            "--python-version", python, "--python", sys.executable, "--no-header", "--quiet",
            *(["--upgrade"] if upgrade else []), source.name, "--output-file", str(output),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command,
                cwd=source.parent,
                env=environment(os.environ),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Transient(f"uv was not done after {TIMEOUT} seconds", fix="try again") from None
        if done.returncode != 0:
            raise _failure(source, done.stderr)
        if output.stat().st_size > MAX_BYTES:
            raise Rejected("the lock file would be too large", reason="LockTooLarge", fix="ask for fewer packages")
        return output.read_text(encoding="utf-8")


def _uv() -> str:
    try:
        import uv

        return os.fsdecode(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise Unavailable("uv is not installed", reason="UvMissing", fix="pip install uv")
    return found


def _failure(source: Path, words: str) -> Rejected | Transient:
    """uv's own words, without credentials, and what to do."""
    lines = [_CREDENTIALS.sub("", line.strip(" ×╰─▶│├╴")) for line in words.splitlines() if line.strip()]
    said = shown(" ".join(lines), 1000) or "uv gave no reason"
    unreachable = ("Failed to fetch", "error sending request", "dns error", "timed out", "Could not connect")
    if any(word in words for word in unreachable):
        return Transient(
            f"the package index can't be asked: {said}",
            reason="IndexUnreachable",
            fix="check the network, and PIP_INDEX_URL or UV_DEFAULT_INDEX, HTTPS_PROXY and SSL_CERT_FILE",
        )
    return Rejected(
        f"no set of packages fits: {said}",
        reason="NoSolution",
        fix=f"mend {source.name}; only packages that come as wheels can be used",
    )


def _without_addresses(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not _ADDRESS.match(line))


def _replace(target: Path, text: str) -> None:
    """Write the whole file or nothing: a reader never sees half a lock."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise UsageError(
            f"{target.name} can't be written: {error.strerror}",
            reason="NotWritable",
            fix="give this user the right to write in the experiment's folder",
        ) from None
    finally:
        partial.unlink(missing_ok=True)
