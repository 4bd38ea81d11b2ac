"""One repository: refs, commits and objects, and the remote `origin` where there is one."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from edgetrain.core.errors import RepositoryError
from edgetrain.core.problem import shown
from edgetrain.repo.command import (
    CREDENTIALS,
    MAX_OUTPUT,
    Completed,
    Running,
    command_line,
    decode,
    encode,
    environment,
    execute,
    failure,
    hidden,
    require_git,
    settings_environment,
    start,
    widen,
)
from edgetrain.repo.objects import COMMIT_FIELDS, COMMIT_FORMAT, OID, Commit, ObjectReader, parse_commit

REMOTE = "origin"
WHOLE = "this clone lacks objects (a partial clone, or damaged): make a full one: git clone URL"
LOCK_SECONDS = 300.0

_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+@-]*)*")


def check_branch(name: str) -> str:
    """The name, if it is safe as a branch; RepositoryError `BadBranchName` otherwise."""
    bad = not _BRANCH.fullmatch(name) or len(name) > 200 or ".." in name or "@{" in name
    if bad or any(part.endswith((".lock", ".")) for part in name.split("/")):
        raise RepositoryError(
            f"not a safe branch name: {shown(name)}",
            reason="BadBranchName",
            fix="use letters, digits and . _ / -, beginning with a letter",
        )
    return name


class Git:
    """One checkout, by the top of its work tree (a bare repository's own folder).

    `remote` gives git settings for one command that talks to the remote, asked anew for each: with a credential
    made for it, say. None: the machine's own credential counts.
    """

    def __init__(self, root: Path, remote: Callable[[], Mapping[str, str]] | None = None) -> None:
        self.root = root
        self.remote = remote
        self._common: Path | None = None
        self._own: Path | None = None
        self._remote_known: bool | None = None
        self._commits: set[str] = set()  # full ids that are commits here, so that git is asked once

    @classmethod
    def find(cls, start: Path) -> Git:
        """The checkout that holds `start`. RepositoryError `NotARepository`, `GitMissing`, `GitTooOld`."""
        folders = ("--path-format=absolute", "--git-common-dir", "--absolute-git-dir")
        with cls(start).begin("rev-parse", "--show-toplevel", *folders) as asked:
            require_git()
            top = asked.end()
        found = [Path(os.fsdecode(line)) for line in top.out.split(b"\n")[:-1]]
        if top.code == 0 and len(found) == 3:  # else one of the names has a line's end in it
            git = cls(found[0])
            git._common, git._own = found[1:]
            return git
        top = cls(start).attempt("rev-parse", "--show-toplevel")
        if top.code == 0 and top.out:
            return cls(Path(os.fsdecode(top.out.removesuffix(b"\n"))))
        inside = cls(start).text("rev-parse", "--is-bare-repository")  # raises what is wrong
        if inside == "true":
            return cls(Path(cls(start).text("rev-parse", "--absolute-git-dir")))
        raise RepositoryError(
            f"{shown(start)} has no work tree", reason="NotARepository", fix="run this inside a git checkout"
        )

    # --- running -------------------------------------------------------------------------------------

    def attempt(
        self,
        *args: str,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        config: Sequence[str] = (),
        timeout: float = 120.0,
        limit: int = MAX_OUTPUT,
    ) -> Completed:
        """Run git and tell how it ended. RepositoryError `GitTimeout` (seconds), `OutputTooLarge` (bytes)."""
        return execute(self.root, args, input=input, env=env, config=config, timeout=timeout, limit=limit)

    def attempt_remote(self, *args: str, timeout: float = 600.0) -> Completed:
        """Like `attempt`, for a command that talks to the remote. What `remote` gives goes through the environment
        of this one command, and no word of git's repeats it."""
        settings = dict(self.remote()) if self.remote is not None else {}
        done = self.attempt(*args, env=settings_environment(settings), timeout=timeout)
        return hidden(done, (value for key, value in settings.items() if key.lower().endswith(CREDENTIALS)))

    def run(
        self,
        *args: str,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        config: Sequence[str] = (),
        timeout: float = 120.0,
    ) -> bytes:
        """Run git and answer its output. RepositoryError, with git's words and a fix, if it fails."""
        done = self.attempt(*args, input=input, env=env, config=config, timeout=timeout)
        if done.code != 0:
            raise failure(args[0], done)
        return done.out

    def begin(self, *args: str) -> Running:
        """Run git while other work is done."""
        return Running(self.root, args).ahead()

    def text(self, *args: str) -> str:
        """Like `run`, as text without the last newline."""
        return decode(self.run(*args)).removesuffix("\n")

    def objects(self) -> ObjectReader:
        """A reader of many objects; close it, or use `with`."""
        process = start(
            command_line(("cat-file", "--batch")),
            cwd=self.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        widen(process.stdout)
        return ObjectReader(process)

    # --- where we are --------------------------------------------------------------------------------

    @property
    def common_dir(self) -> Path:
        """The folder that all work trees of the repository share."""
        if self._common is None:
            self._common = Path(self.text("rev-parse", "--path-format=absolute", "--git-common-dir"))
        return self._common

    @property
    def own_dir(self) -> Path:
        """The folder of this work tree alone; of the repository's first one the same as `common_dir`."""
        if self._own is None:
            self._own = Path(self.text("rev-parse", "--absolute-git-dir"))
        return self._own

    @contextlib.contextmanager
    def lock(self, timeout: float = LOCK_SECONDS) -> Iterator[None]:
        """Keep other threads and processes of ours from changing refs; a thread may enter it again.

        RepositoryError `RepositoryBusy` after `timeout` seconds.
        """
        from filelock import FileLock, Timeout  # here: reading alone starts faster without it

        path = self.common_dir / "edgetrain.lock"
        held = FileLock(path, thread_local=True, is_singleton=True)
        try:
            held.acquire(timeout=timeout)
        except Timeout:
            raise RepositoryError(
                "another edgetrain command holds this repository",
                reason="RepositoryBusy",
                fix="wait for the other edgetrain command on this checkout to end",
            ) from None
        except OSError as error:
            raise RepositoryError(
                f"the repository can't be written: {error.strerror}",
                reason="DiskNotWritable",
                fix="make room on its disk, mount it writable, or give this user the right to write in .git",
            ) from None
        try:
            yield
        finally:
            held.release()

    def head(self) -> str:
        """The commit that HEAD names. RepositoryError `CommitMissing` before the first commit."""
        return self.resolve("HEAD")

    def resolve(self, revision: str) -> str:
        """The commit that `revision` names. RepositoryError `CommitMissing`."""
        if revision in self._commits:
            return revision
        done = self.attempt("rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}")
        if done.code != 0 or not OID.fullmatch(done.text()):
            raise RepositoryError(
                f"no commit {shown(revision)} here", reason="CommitMissing", fix="fetch it, or correct its name"
            )
        self._commits.add(done.text())
        return done.text()

    def ref(self, name: str) -> str | None:
        """What the full ref name (`refs/heads/...`) points to."""
        # Not rev-parse: it would also take `refs/heads/refs/heads/x` for `refs/heads/x`.
        done = self.attempt("show-ref", "--verify", "--hash", "--", name)
        return done.text() if done.code == 0 else None

    def is_shallow(self) -> bool:
        """Whether history is cut off."""
        return self.text("rev-parse", "--is-shallow-repository") == "true"

    def boundary(self) -> frozenset[str]:
        """The commits whose parents a shallow clone lacks."""
        try:
            return frozenset((self.common_dir / "shallow").read_text("ascii").split())
        except FileNotFoundError:
            return frozenset()

    def grafts(self) -> tuple[str, ...]:
        """What somebody had git take for parents here, instead of what commits name."""
        try:
            return tuple((self.common_dir / "info" / "grafts").read_text("utf-8", "replace").splitlines())
        except OSError:
            return ()

    def merge_base(self, a: str, b: str) -> str | None:
        """The best common ancestor; None if there is none here (it may be cut off in a shallow clone)."""
        if a == b and a in self._commits:
            return a
        done = self.attempt("merge-base", self.resolve(a), self.resolve(b))
        if done.code > 1:
            raise failure("merge-base", done)
        return done.text().partition("\n")[0] or None

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether `older` is reachable from `newer`."""
        done = self.attempt("merge-base", "--is-ancestor", older, newer)
        if done.code > 1:
            raise failure("merge-base", done)
        return done.code == 0

    # --- the remote ----------------------------------------------------------------------------------

    def has_remote(self) -> bool:
        """Whether there is a remote named `origin`."""
        if self._remote_known is not None:
            return self._remote_known
        return REMOTE in self.text("remote").splitlines()

    def learn(self, settings: bytes) -> None:
        """What `git config --list -z` has just told: that there is a remote, or none, is not asked for again."""
        self._remote_known = f"\0remote.{REMOTE}.".encode() in b"\0" + settings

    def fetch(self, branch: str) -> None:
        """Bring `origin/<branch>` up to date. RepositoryError `BranchMissing`, `RemoteUnreachable`, ..."""
        self._fetch(check_branch(branch))

    def fetch_matching(self, prefix: str) -> None:
        """Bring all `origin/<prefix>...` up to date, and forget those that are gone there."""
        self._fetch(prefix + "*", "--prune")

    def _fetch(self, name: str, *options: str) -> None:
        spec = f"+refs/heads/{name}:refs/remotes/{REMOTE}/{name}"
        quiet = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        with self.lock():
            done = self.attempt_remote("fetch", *quiet, *options, "--end-of-options", REMOTE, spec)
        if done.code != 0 and "couldn't find remote ref" in done.err:
            raise _no_branch(name, f"push it: git push {REMOTE} {name}")
        if done.code != 0:
            raise failure("fetch", done)

    def tip(self, branch: str, refresh: bool = True) -> str:
        """The branch's newest commit: origin's where there is a remote, else the local branch's.

        With `refresh` the remote is asked; without it what was last fetched, or the local branch, counts.
        """
        check_branch(branch)
        local, remote = f"refs/heads/{branch}", f"refs/remotes/{REMOTE}/{branch}"
        if not refresh:
            found = self._known_tip(local, remote)
        elif self.has_remote():
            self.fetch(branch)
            found = self.ref(remote)
        else:
            found = self.ref(local)
        if found is None:
            raise _no_branch(branch, f"make its first commit, or fetch it: git fetch {REMOTE} {branch}")
        return found

    def _known_tip(self, local: str, remote: str) -> str | None:
        """The remote's branch where there is a remote that was fetched from, else the local one."""
        with self.begin("for-each-ref", "--format=%(refname) %(objectname) %(objecttype)", local, remote) as asked:
            names = (remote, local) if self.has_remote() else (local,)
            done = asked.end()
        if done.code != 0:  # one of them names what is not here
            return next(filter(None, map(self.ref, names)), None)
        # Of folders of branches it tells, too: `main` may stand for `main/...`, where there is no `main`.
        refs = {name: (oid, kind) for name, oid, kind in (line.split(" ") for line in done.text().splitlines())}
        oid, kind = next((refs[name] for name in names if name in refs), (None, ""))
        if oid and kind == "commit":
            self._commits.add(oid)
        return oid

    # --- reading -------------------------------------------------------------------------------------

    def commits(self, *args: str, input: bytes | None = None) -> list[Commit]:
        """What `git log` with these arguments lists."""
        data = self.run("log", "-z", "--no-notes", "--no-color", f"--format={COMMIT_FORMAT}", *args, input=input)
        fields = data.decode("utf-8", "replace").split("\0")[:-1]
        return [parse_commit(fields[at : at + COMMIT_FIELDS]) for at in range(0, len(fields), COMMIT_FIELDS)]

    def commit_info(self, sha: str) -> Commit:
        """One commit. RepositoryError `CommitMissing`."""
        return self.commits("--no-walk", "--no-patch", self.resolve(sha))[0]

    def show(self, sha: str, path: str, limit: int = 2**20) -> bytes | None:
        """The file's bytes at the commit; None if there is no such file. RepositoryError `FileTooLarge`, and
        `ObjectMissing` where this clone lacks what the commit has there."""
        if "\n" in path:
            return None
        entry = self.run("cat-file", "--batch-check=%(objectname) %(objecttype)", input=encode(f"{sha}:{path}\n"))
        blob, _, kind = decode(entry).removesuffix("\n").partition(" ")
        if entry.endswith(b" missing\n"):
            # Git says the same of what it lacks: whether the commit has it, its tree tells.
            if self.run("ls-tree", "-z", "--full-tree", sha, "--", f":(top,literal){path}"):
                raise RepositoryError(
                    f"git has no object for {shown(path)} at {sha[:12]}", reason="ObjectMissing", fix=WHOLE
                )
            return None
        if kind != "blob" or not OID.fullmatch(blob):
            return None
        with self.objects() as objects:
            return objects.read(blob, limit)


def _no_branch(branch: str, fix: str) -> RepositoryError:
    return RepositoryError(f"there is no branch {shown(branch)}", reason="BranchMissing", fix=fix)
