"""Writing facts to git: one commit a fact on the configured branch, and proposals on branches of their own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetrain.core.errors import PushRejected, RepositoryError
from edgetrain.core.problem import shown
from edgetrain.repo.checkout import LITERAL, move, place_of
from edgetrain.repo.command import decode, encode, failure, without_credentials
from edgetrain.repo.export import safe_path
from edgetrain.repo.git import REMOTE, Git, check_branch
from edgetrain.repo.message import message
from edgetrain.repo.tree import FILE, REGULAR

OWN_BRANCHES = "edgetrain/"
_MOVED_ON = ("fetch first", "non-fast-forward", "stale info", "cannot lock ref", "incorrect old value",
             "failed to update ref", "reference already exists")  # fmt: skip


class RecordExists(RepositoryError):
    """A fact of this name is in git with other bytes; facts are never edited."""

    default_reason = "RecordExists"


@dataclass(frozen=True)
class Machine:
    """Who the machine's commits are by. `signing_key` is a private SSH key's file, without a passphrase."""

    name: str
    email: str
    signing_key: Path | None = None


class Ledger:
    """Commits facts. Killed anywhere, the next call brings it to the same end, each fact there once.

    `step` is called with a stable name before each outside effect: `fetch`, `commit`, `push`, `worktree`,
    `branch`. `say` gets what a person should know and that stops nothing. `sleep` (seconds) waits between
    tries when others push at the same time; after `tries` of them PushRejected is raised.
    """

    def __init__(
        self,
        git: Git,
        branch: str,
        identity: Machine,
        *,
        step: Callable[[str], None] = lambda name: None,
        say: Callable[[str], None] = lambda text: None,
        sleep: Callable[[float], None] = time.sleep,
        tries: int = 10,
    ) -> None:
        self.git = git
        self.branch = check_branch(branch)
        self.identity = identity
        self._step = step
        self._say = say
        self._sleep = sleep
        self._tries = tries

    # --- facts ---------------------------------------------------------------------------------------

    def commit(
        self,
        files: Mapping[str, bytes],
        subject: str,
        body: str = "",
        trailers: Sequence[tuple[str, str]] = (),
        replaces: Mapping[str, bytes] | None = None,
    ) -> str:
        """Ensure that the branch holds these files; answer the commit that made it so, or the tip that
        already did.

        With a remote `origin` the fact is pushed before this returns. `replaces` gives the bytes of files that
        are no facts and may change: what the tip has otherwise raises RepositoryError `ChangedMeanwhile`.
        RecordExists for any other path with other bytes; PushRejected, or RepositoryError `RemoteRefused`,
        `RemoteUnreachable`, `SigningFailed`, `WorkTreeInTheWay`; the fact is then not on the branch.
        """
        text = message(subject, body, trailers)
        return self._retrying(lambda: self._commit(files, text, replaces or {}))

    def _commit(self, files: Mapping[str, bytes], text: bytes, replaces: Mapping[str, bytes]) -> str:
        with self.git.lock():
            self._step("fetch")
            tip = self.git.tip(self.branch)
            blobs = self._store(files)
            new = self._build(tip, blobs, text, replaces) or tip
            if not self.git.has_remote():
                if new != tip:
                    move(self.git, self.branch, tip, new, self._step, blobs)
                return new
            if new != tip:
                self._push(f"{new}:refs/heads/{self.branch}")
            self._follow(new, blobs)
            return new

    def _follow(self, tip: str, blobs: Mapping[str, str]) -> None:
        """Bring the local branch up to what is pushed, if nothing is lost by it."""
        local = self.git.ref(f"refs/heads/{self.branch}")
        if local is None or local == tip:
            return
        if not self.git.is_ancestor(local, tip):
            self._say(f"the local branch {self.branch} has commits that {REMOTE} lacks; it is left as it is")
            return
        try:
            move(self.git, self.branch, local, tip, self._step, blobs)
        except RepositoryError as error:
            self._say(f"pushed; the local branch {self.branch} is left behind: {error.message}")

    # --- proposals -----------------------------------------------------------------------------------

    def propose(
        self,
        branch: str,
        files: Mapping[str, bytes],
        subject: str,
        body: str = "",
        trailers: Sequence[tuple[str, str]] = (),
        replaces: Mapping[str, bytes] | None = None,
    ) -> str:
        """Ensure that the machine's branch (`edgetrain/...`) proposes these files; answer its commit.

        A branch that has them stays as it is, with what people added; one that has not is replaced by one
        commit on the current tip. `replaces` is as in `commit`. If the tip already has them all, nothing is
        done and it is the answer.
        """
        _own(branch)
        text = message(subject, body, trailers)
        return self._retrying(lambda: self._propose(branch, files, text, replaces or {}))

    def _propose(self, branch: str, files: Mapping[str, bytes], text: bytes, replaces: Mapping[str, bytes]) -> str:
        with self.git.lock():
            existing = self.proposal(branch)
            tip = self.git.tip(self.branch)
            blobs = self._store(files)
            if existing and self._proposes(existing, tip, blobs):
                return existing
            new = self._build(tip, blobs, text, replaces)
            if new is None:
                return tip
            if self.git.has_remote():
                self._push(f"{new}:refs/heads/{branch}", f"refs/heads/{branch}:{existing or ''}")
            else:
                move(self.git, branch, existing, new, self._step, blobs)
            return new

    def _proposes(self, existing: str, tip: str, blobs: Mapping[str, str]) -> bool:
        """Whether the branch has these files, and the machine's commit on it touched no others."""
        there = self._at(existing, blobs)
        if any(there.get(path) != (FILE, blob) for path, blob in blobs.items()):
            return False
        base = self.git.merge_base(tip, existing)
        if base is None:
            return True  # cut off in a shallow clone: the files are what counts
        own = self.git.text("rev-list", "--reverse", "--first-parent", f"{base}..{existing}").split()
        return bool(own) and self._changed(base, own[0]).keys() <= blobs.keys()

    def proposal(self, branch: str) -> str | None:
        """The branch's commit (fetched), or None."""
        _own(branch)
        return self.proposals(branch).get(branch)

    def proposals(self, prefix: str = OWN_BRANCHES) -> dict[str, str]:
        """The machine's branches whose names start with `prefix`, and their commits (fetched)."""
        _own(prefix, prefix=True)
        place = "refs/heads/"
        if self.git.has_remote():
            self._step("fetch")
            place = f"refs/remotes/{REMOTE}/"
            self.git.fetch_matching(prefix)
        listing = self.git.text("for-each-ref", "--format=%(objectname) %(refname)", place + OWN_BRANCHES)
        pairs = [line.split(" ", 1) for line in listing.splitlines()]
        names = {name.removeprefix(place): sha for sha, name in pairs}
        return {name: sha for name, sha in sorted(names.items()) if name.startswith(prefix)}

    def withdraw(self, branch: str) -> None:
        """Ensure that the machine's branch is gone. RepositoryError `BranchInUse` if it is checked out."""
        _own(branch)
        self._retrying(lambda: self._withdraw(branch))

    def _withdraw(self, branch: str) -> str:
        with self.git.lock():
            existing = self.proposal(branch)
            if existing is None:
                return ""
            ref = f"refs/heads/{branch}"
            if self.git.has_remote():
                self._push(f":{ref}", f"{ref}:{existing}")
                return existing
            if place_of(self.git, branch):
                raise RepositoryError(
                    f"{branch} is checked out", reason="BranchInUse", fix=f"switch to {self.branch} first"
                )
            self._step("branch")
            self.git.run("update-ref", "-d", ref, existing)
            return existing

    # --- making --------------------------------------------------------------------------------------

    def _retrying(self, once: Callable[[], str]) -> str:
        # Here, for whoever only reads starts faster without it.
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        retrying = Retrying(
            retry=retry_if_exception_type(PushRejected),
            stop=stop_after_attempt(self._tries),
            wait=wait_random_exponential(multiplier=0.1, max=10),
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(once)

    def _store(self, files: Mapping[str, bytes]) -> dict[str, str]:
        if not files:
            raise ValueError("a fact needs a file")
        return {
            safe_path(path): self.git.run("hash-object", "-w", "--stdin", input=data).decode().strip()
            for path, data in files.items()
        }

    def _at(self, commit: str, paths: Collection[str]) -> dict[str, tuple[str, str]]:
        """Mode and object of those of the paths that the commit has."""
        listing = self.git.run("ls-tree", "-z", "--full-tree", commit, "--", *paths, env=LITERAL)
        found = {}
        for line in filter(None, listing.split(b"\0")):
            facts, _, name = line.partition(b"\t")
            mode, _, blob = facts.decode().split(" ")
            found[decode(name)] = (FILE if mode in REGULAR else mode, blob)
        return found

    def _changed(self, old: str, new: str) -> dict[str, str]:
        """Paths that differ between two trees, and how: A, M, D or T."""
        parts = decode(self.git.run("diff-tree", "-r", "-z", "--no-renames", "--name-status", old, new)).split("\0")
        return dict(zip(parts[1::2], parts[0::2], strict=False))

    def _build(self, tip: str, blobs: Mapping[str, str], text: bytes, replaces: Mapping[str, bytes]) -> str | None:
        """A commit of these files on `tip`; None if the tip has them all."""
        there = self._at(tip, blobs)
        missing = {path: blob for path, blob in blobs.items() if there.get(path) != (FILE, blob)}
        if not missing:
            return None
        with tempfile.TemporaryDirectory(prefix="edgetrain-") as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            self.git.run("read-tree", tip, env=index)
            lines = b"".join(f"{FILE} {blob}\t".encode() + encode(path) + b"\0" for path, blob in missing.items())
            self.git.run("update-index", "-z", "--index-info", input=lines, env=index)
            tree = self.git.run("write-tree", env=index).decode().strip()
        for path, change in self._changed(tip, tree).items():
            if change != "A" and path not in replaces:
                raise RecordExists(
                    f"{shown(path)} is already in git with other contents",
                    fix="facts are never edited; see git log for who wrote it",
                )
        self._unmoved(there, missing, replaces)
        self._step("commit")
        return self._sign_and_commit(tree, tip, text)

    def _unmoved(
        self, there: Mapping[str, tuple[str, str]], missing: Collection[str], replaces: Mapping[str, bytes]
    ) -> None:
        """Raise if somebody changed a file since it was read: their change would be lost."""
        read = {path: data for path, data in replaces.items() if path in missing}
        expected = self._store(read) if read else {}
        for path, blob in expected.items():
            if there.get(path) != (FILE, blob):
                raise RepositoryError(
                    f"{shown(path)} was changed on {self.branch} since it was read",
                    reason="ChangedMeanwhile",
                    fix="run this again",
                )

    def _sign_and_commit(self, tree: str, parent: str, text: bytes) -> str:
        me, key = self.identity, self.identity.signing_key
        who = {
            f"GIT_{role}_{part}": value
            for role in ("AUTHOR", "COMMITTER")
            for part, value in (("NAME", me.name), ("EMAIL", me.email))
        }
        signing = (f"-S{key.absolute()}",) if key else ("--no-gpg-sign",)
        done = self.git.attempt(
            "commit-tree", *signing, "-p", parent, "-F", "-", tree, input=text, env=who, config=("gpg.format=ssh",)
        )
        if done.code != 0 and key:
            raise RepositoryError(
                f"the commit can't be signed: {without_credentials(done.err)}",
                reason="SigningFailed",
                fix="give a readable private SSH key without a passphrase, and install ssh-keygen",
            )
        if done.code != 0:
            raise failure("commit-tree", done)
        return done.text()

    def _push(self, refspec: str, lease: str | None = None) -> None:
        """Push one ref; PushRejected if the remote moved on, RepositoryError `RemoteRefused` if it says no."""
        self._step("push")
        options = ("--porcelain", "--no-verify", "--no-follow-tags", "--no-signed", "--recurse-submodules=no")
        guard = (f"--force-with-lease={lease}",) if lease else ()
        done = self.git.attempt_remote("push", *options, *guard, "--end-of-options", REMOTE, refspec)
        if done.code == 0:
            return
        answer = next((line for line in done.text().splitlines() if line.startswith("!")), "")
        told = without_credentials(f"{answer.rpartition(chr(9))[2]} {done.err}")
        if answer and any(sign in answer for sign in _MOVED_ON):
            raise PushRejected(
                f"{REMOTE} moved on: {told}", fix="run this again; others are pushing at this moment"
            )
        if answer:
            allow = f"let the machine push to {self.branch} and {OWN_BRANCHES}*: branch protection, hooks"
            room = "make room on the remote's disk, or make it writable, then apply again"
            fix = room if "unpack" in told else allow
            raise RepositoryError(f"{REMOTE} refused the push: {told}", reason="RemoteRefused", fix=fix)
        raise failure("push", done)


def _own(name: str, prefix: bool = False) -> None:
    """Only branches below `edgetrain/` are the machine's to replace or delete."""
    if not name.startswith(OWN_BRANCHES):
        raise RepositoryError(
            f"{shown(name)} is not a branch of the machine",
            reason="BadBranchName",
            fix="report this: it is a fault of edgetrain",
        )
    check_branch(name.rstrip("/-") if prefix else name)
