"""One git command: no shell, a cleaned environment, bounded output, errors that hold no credentials."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Self

from edgetrain.core.errors import RepositoryError
from edgetrain.core.problem import shown

OLDEST = (2, 34)
MAX_OUTPUT = 256 * 2**20
GRACE = 5.0
PIPE = 2**20
CREDENTIALS = (".extraheader", ".proxy")  # the settings whose values may hold one

# How to reach a remote is the machine's affair; which repository, index or objects to use is ours.
_KEPT = frozenset({
    "GIT_ASKPASS", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_SYSTEM", "GIT_EXEC_PATH", "GIT_SSH",
    "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH",
})  # fmt: skip
_SET = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"}
_OPTIONS = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "protocol.ext.allow=never", "core.quotePath=false",
    "gc.auto=0", "maintenance.auto=false", "log.showRoot=true", "log.showSignature=false",
    "i18n.logOutputEncoding=UTF-8", "i18n.commitEncoding=UTF-8", "submodule.recurse=false",
    "log.follow=false", "trailer.separators=:",
)  # fmt: skip
_SCARCE = {errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE}
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")
_CAUSES = (
    # First of all: a lock or an object that can't be made names its cause behind its own complaint.
    (
        r"No space left|Disk quota exceeded|Read-only file system|couldn't write '",
        "DiskNotWritable",
        "make room on the disk, or mount it writable, then try again",
    ),
    (
        r"Cannot allocate memory|[Oo]ut of memory|unable to fork|Resource temporarily unavailable",
        "OutOfMemory",
        "end what uses up this machine's memory, then try again",
    ),
    (
        r"dubious ownership",
        "UnsafeOwnership",
        "if you trust the folder: git config --global --add safe.directory FOLDER",
    ),
    (
        r"index\.lock|\.lock': File exists|cannot lock ref",
        "RepositoryBusy",
        "wait for the other git command; if none runs, remove the .lock file that it left",
    ),
    (
        r"from promisor remote",
        "PartialClone",
        "this clone left objects with its remote (a partial clone): reach that, or make a full one: git clone URL",
    ),
    (
        r"Authentication failed|could not read (Username|Password)|terminal prompts disabled|Permission denied"
        r"|error: 40[13]|Host key verification failed",
        "RemoteDenied",
        "check the credential or deploy key that this machine uses for the remote",
    ),
    (
        r"Could not resolve|unable to access|Could not read from remote|Connection (refused|timed out|reset)"
        r"|does not appear to be a git repository|early EOF|hung up",
        "RemoteUnreachable",
        "check the remote's address (git remote -v) and the network, then try again",
    ),
    (r"not a git repository", "NotARepository", "run this inside a git checkout, or: git init"),
)


@dataclass(frozen=True)
class Completed:
    """How a git command ended."""

    code: int
    out: bytes
    err: str

    def text(self) -> str:
        """Its output without the last newline."""
        return decode(self.out).removesuffix("\n")


def decode(data: bytes) -> str:
    """Git's bytes as text; a name that is not UTF-8 survives the way there and back."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The inverse of `decode`."""
    return text.encode("utf-8", "surrogateescape")


def without_credentials(text: str, limit: int = 600) -> str:
    """Git's words, fit for a message: no user or password of a URL, no control characters, bounded."""
    return shown(" ".join(_CREDENTIALS.sub("", text).split()), limit)


def failure(verb: str, done: Completed) -> RepositoryError:
    """The error for a git command that failed."""
    words = without_credentials(done.err) or f"exit code {done.code}"
    for pattern, reason, fix in _CAUSES:
        if re.search(pattern, done.err):
            return RepositoryError(f"git {verb}: {words}", reason=reason, fix=fix)
    return RepositoryError(
        f"git {verb}: {words}", reason="GitFailed", fix="run the same git command by hand to see more"
    )


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would point git elsewhere or make it ask."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k in _KEPT}
    return {**inherited, **_SET, **(extra or {})}


def settings_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Git settings as its environment takes them: other users of the machine see a process's arguments, not this.

    What adds up in git (`extraheader`) is emptied before: a checkout may have left a credential of its own.
    """
    pairs = []
    for key, value in settings.items():
        if key.lower().endswith(".extraheader"):
            pairs.append((key, ""))
        pairs.append((key, value))
    found = {"GIT_CONFIG_COUNT": str(len(pairs))} if pairs else {}
    for number, (key, value) in enumerate(pairs):
        found |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        if key.lower().endswith(".sslcainfo"):
            found["GIT_SSL_CAINFO"] = value  # of the machine's own environment it would win over the setting
    return found


def hidden(done: Completed, values: Iterable[str]) -> Completed:
    """The same without the values, and without the last word of each: of a header that is the credential."""
    out, err = done.out, done.err
    for value in values:
        for secret in filter(None, (value.strip(), value.rpartition(" ")[2].strip())):
            out, err = out.replace(encode(secret), b"***"), err.replace(secret, "***")
    return Completed(done.code, out, err)


def command_line(args: Sequence[str], config: Sequence[str] = ()) -> list[str]:
    """The whole argument list, with `config` (`key=value`) over our settings."""
    options = [part for option in (*_OPTIONS, *config) for part in ("-c", option)]
    # Replacement refs would let anyone who can push them rewrite what history says.
    return ["git", "--no-pager", "--no-replace-objects", *options, *args]


@cache
def require_git() -> None:
    """RepositoryError `GitMissing` or `GitTooOld` unless a git that will do is on this machine."""
    if shutil.which("git") is None:
        raise RepositoryError("git is not on this machine", reason="GitMissing", fix="install git 2.34 or newer")
    process = start(["git", "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment())
    try:
        told = decode(process.communicate()[0]).strip()
    finally:
        _stop(process)
    found = re.search(r"(\d+)\.(\d+)", told)
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        raise RepositoryError(f"git is too old: {shown(told)}", reason="GitTooOld", fix="install git 2.34 or newer")


_begun: set[subprocess.Popen[bytes]] = set()


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Begin git, in a session of its own: no terminal to ask for passwords, and its helpers die with it. Where
    Ctrl-C comes before anybody holds the process, `end_all` knows it."""
    for earlier in [*_begun]:
        if earlier.returncode is not None:
            _begun.discard(earlier)
    with _ctrl_c_later():
        process = subprocess.Popen(command, start_new_session=True, **options)
        _begun.add(process)
    return process


def end_all() -> None:
    """End every git that was begun and has not ended: for a process that was told to stop."""
    for process in [*_begun]:
        _stop(process)
        _begun.discard(process)


@contextlib.contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Ctrl-C in this block is told after it. No signal mask, which the process that is begun would inherit."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    told = []
    signal.signal(signal.SIGINT, lambda number, _: told.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if told:
            signal.raise_signal(signal.SIGINT)


def execute(
    root: Path,
    args: Sequence[str],
    *,
    input: bytes | None = None,
    env: Mapping[str, str] | None = None,
    config: Sequence[str] = (),
    timeout: float = 120.0,
    limit: int = MAX_OUTPUT,
) -> Completed:
    """Run git in `root` and tell how it ended. RepositoryError `GitTimeout` after `timeout` seconds,
    `OutputTooLarge` beyond `limit` bytes, `NotARepository` if the folder can't be entered."""
    return Running(root, args, input=input, env=env, config=config).end(timeout, limit)


class Running:
    """One git command that runs while other work is done: begin it, and `end` it, or `stop` it."""

    def __init__(
        self,
        root: Path,
        args: Sequence[str],
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        config: Sequence[str] = (),
    ) -> None:
        self._args = args
        # Files, not pipes, for what goes in and for errors: nothing can block on a full pipe.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        with contextlib.ExitStack() as held:
            source: IO[bytes] | int = subprocess.DEVNULL
            if input:
                source = held.enter_context(tempfile.TemporaryFile())
                source.write(input)
                source.seek(0)
            try:
                self._process = start(
                    command_line(args, config),
                    cwd=root,
                    stdin=source,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    env=environment(env),
                )
            except OSError as error:
                self._errors.close()
                if error.errno in _SCARCE:
                    raise RepositoryError(
                        f"git can't be started: {error.strerror}",
                        reason="OutOfMemory",
                        fix="end what uses up this machine's memory, then try again",
                    ) from None
                require_git()
                raise RepositoryError(
                    f"git can't run in {shown(root)}: {error.strerror}",
                    reason="NotARepository",
                    fix="name a folder that you may enter: edgetrain -C DIR ...",
                ) from None

    def ahead(self) -> Running:
        """Let git answer much before anybody reads, where the system has room for that."""
        widen(self._process.stdout)
        return self

    def end(self, timeout: float = 120.0, limit: int = MAX_OUTPUT) -> Completed:
        """Wait for it, and tell how it ended; errors as in `execute`. The time counts from now: what was done
        meanwhile may have taken long."""
        try:
            out = _read(self._process, time.monotonic() + timeout, limit)
            _stop(self._process)
            self._errors.seek(0)
            err = decode(self._errors.read(2**16))
        finally:
            self.stop()
        if out is None:
            raise RepositoryError(
                f"git {self._args[0]} took longer than {timeout:g} s",
                reason="GitTimeout",
                fix="check the network and the remote, then try again",
            )
        if len(out) > limit:
            raise RepositoryError(
                f"git {self._args[0]} answered more than {limit} bytes",
                reason="OutputTooLarge",
                fix="see what makes it so large: run the same git command by hand",
            )
        return Completed(self._process.returncode, out, err)

    def output(self) -> bytes:
        """Its output, whole. RepositoryError, with git's words and a fix, if it fails."""
        done = self.end()
        if done.code != 0:
            raise failure(self._args[0], done)
        return done.out

    def stop(self) -> None:
        """End it if it has not ended."""
        _stop(self._process)
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def widen(pipe: IO[bytes] | None) -> None:
    """Let a pipe hold much, where the system has room for that: who writes need not wait for who reads."""
    if pipe and hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)


def _read(process: subprocess.Popen[bytes], deadline: float, limit: int) -> bytes | None:
    """All output, or a little more than `limit`; None if git has not ended by `deadline`."""
    if process.stdout is None:
        raise ValueError("the process needs a pipe")
    pipe = process.stdout.fileno()
    ready = select.poll()
    ready.register(pipe, select.POLLIN)
    out = bytearray()
    while len(out) <= limit:
        left = deadline - time.monotonic()
        if left <= 0 or not ready.poll(left * 1000):
            return None
        piece = os.read(pipe, 2**16)
        if not piece:
            break
        out += piece
    if len(out) <= limit:
        seconds = max(deadline - time.monotonic(), 1)
        _await(process, seconds)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
    return bytes(out)


def _await(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Sleep until it ends. Python itself, given a time, looks again and again, and loses a millisecond or more each
    time that git is asked."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(process.pid)
            try:
                ended = select.poll()
                ended.register(handle, select.POLLIN)
                ended.poll(seconds * 1000)
            finally:
                os.close(handle)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End git if it has not ended: first gently, so that it takes its lock files with it."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE if how == signal.SIGTERM else None)
    if process.stdout:
        process.stdout.close()
