"""A bare git repository of the stand-in: what the server itself reads and writes there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOTHING = "0" * 40
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
STATUS = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "C": "copied", "T": "changed"}


class GitFailed(RuntimeError):
    """git ended with an error; the message is what it said."""


@dataclass(frozen=True)
class Person:
    """Who wrote or committed something."""

    name: str
    email: str


@dataclass(frozen=True)
class Commit:
    """A commit. `written` and `committed` are times in ISO 8601."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: Person
    written: str
    committer: Person
    committed: str
    message: str


@dataclass(frozen=True)
class Changed:
    """A file that differs between two commits."""

    status: str
    path: str
    before: str
    blob: str
    additions: int
    deletions: int
    patch: str


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every git here: nothing of the machine's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**kept, "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, **(more or {})}


class Bare:
    """One of them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def git(self, *arguments: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None) -> str:
        """What git answers. Raises GitFailed."""
        done = self._run(arguments, stdin, env)
        if done.returncode:
            raise GitFailed(f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode("utf-8", "replace")

    def _run(
        self, arguments: Sequence[str], stdin: bytes | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        command = ["git", "--git-dir", str(self.path), *arguments]
        return subprocess.run(command, input=stdin or b"", capture_output=True, env=environment(env), check=False)

    def create(self, branch: str, hook: Path) -> None:
        """Make it; `hook` decides about each ref that is pushed."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--bare", f"--initial-branch={branch}", str(self.path))
        for name, value in (
            ("receive.hideRefs", "refs/pull"),
            ("receive.fsckObjects", "true"),
            ("receive.denyDeleteCurrent", "ignore"),  # the hook says it in GitHub's words
            ("uploadpack.allowFilter", "true"),
            ("uploadpack.allowAnySHA1InWant", "true"),
            ("http.receivepack", "true"),
            ("gc.auto", "0"),
        ):
            self.git("config", name, value)
        script = self.path / "hooks" / "update"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!{sys.executable} -IS\n{hook.read_text(encoding='utf-8')}", encoding="utf-8")
        script.chmod(0o755)

    def resolve(self, name: str) -> str | None:
        """The commit of a branch, ref or number; None if there is none."""
        for candidate in (f"refs/heads/{name}", f"refs/tags/{name}", name):
            done = self._run(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{candidate}^{{commit}}"])
            if done.returncode == 0:
                return done.stdout.decode().strip()
        return None

    def branch(self, name: str) -> str | None:
        """The newest commit of a branch; None if there is none."""
        done = self._run(["rev-parse", "--verify", "--quiet", "--end-of-options", f"refs/heads/{name}^{{commit}}"])
        return done.stdout.decode().strip() if done.returncode == 0 else None

    def set_ref(self, ref: str, sha: str | None) -> None:
        """Let the ref show there; None removes it."""
        if sha is None:
            self.git("update-ref", "-d", ref)
        else:
            self.git("update-ref", ref, sha)

    def contains(self, descendant: str, ancestor: str) -> bool:
        """Whether the one commit is, or comes after, the other."""
        return self._run(["merge-base", "--is-ancestor", ancestor, descendant]).returncode == 0

    def merge_base(self, one: str, other: str) -> str:
        """Their newest common commit; the empty tree if they have none."""
        done = self._run(["merge-base", one, other])
        return done.stdout.decode().strip() if done.returncode == 0 else EMPTY_TREE

    def merged_tree(self, base: str, head: str) -> str | None:
        """The tree of their merge; None if they conflict."""
        done = self._run(["merge-tree", "--write-tree", "--allow-unrelated-histories", base, head])
        if done.returncode > 1:
            raise GitFailed(done.stderr.decode(errors="replace"))
        return done.stdout.decode().splitlines()[0] if done.returncode == 0 else None

    def commit_tree(
        self, tree: str, parents: Sequence[str], message: str, author: Person, committer: Person
    ) -> str:
        """A new commit that no ref shows yet."""
        env = {
            "GIT_AUTHOR_NAME": author.name,
            "GIT_AUTHOR_EMAIL": author.email,
            "GIT_COMMITTER_NAME": committer.name,
            "GIT_COMMITTER_EMAIL": committer.email,
        }
        flags = [flag for parent in parents for flag in ("-p", parent)]
        return self.git("commit-tree", tree, *flags, stdin=message.encode(), env=env).strip()

    def tree_with(self, start: str | None, files: Mapping[str, bytes | str | None]) -> str:
        """The tree of a commit with these files put in, or (None) taken out."""
        index = {"GIT_INDEX_FILE": str(self.path / f"index-{os.urandom(8).hex()}")}
        try:
            if start is not None:
                self.git("read-tree", start, env=index)
            lines = []
            for path, content in files.items():
                if content is None:
                    lines.append(f"0 {NOTHING}\t{path}\0")
                    continue
                data = content.encode() if isinstance(content, str) else content
                blob = self.git("hash-object", "-w", "--stdin", stdin=data).strip()
                lines.append(f"100644 {blob}\t{path}\0")
            self.git("update-index", "-z", "--index-info", stdin="".join(lines).encode(), env=index)
            return self.git("write-tree", env=index).strip()
        finally:
            Path(index["GIT_INDEX_FILE"]).unlink(missing_ok=True)

    def commit(self, name: str) -> Commit:
        """Raises GitFailed."""
        form = "%H%x00%T%x00%P%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%B"
        shown = self.git("log", "-1", f"--format={form}", "--end-of-options", name).rstrip("\n")
        sha, tree, parents, author, mail, written, committer, other_mail, committed, message = shown.split("\0", 9)
        return Commit(
            sha,
            tree,
            tuple(parents.split()),
            Person(author, mail),
            written,
            Person(committer, other_mail),
            committed,
            message.strip("\n"),
        )

    def between(self, excluded: str | None, head: str) -> list[str]:
        """The commits of `head` that the other does not have; oldest first."""
        limit = [f"^{excluded}"] if excluded else []
        return self.git("rev-list", "--reverse", "--topo-order", head, *limit).split()

    def touched(self, commit: Commit) -> dict[str, list[str]]:
        """The files that a commit added, removed and modified against its first parent."""
        parent = commit.parents[0] if commit.parents else EMPTY_TREE
        shown = self.git("diff-tree", "-r", "-z", "--no-renames", "--name-status", parent, commit.sha).split("\0")
        found: dict[str, list[str]] = {"added": [], "removed": [], "modified": []}
        for status, path in zip(shown[0:-1:2], shown[1:-1:2], strict=True):
            found[{"A": "added", "D": "removed"}.get(status, "modified")].append(path)
        return found

    def changed(self, base: str, head: str) -> list[Changed]:
        """The files that differ, with what GitHub tells of each."""
        raw = self.git("diff-tree", "-r", "-z", "-M", "--raw", "--numstat", "--no-abbrev", base, head).split("\0")
        whole = self.git("diff-tree", "-r", "-p", "-M", "--no-color", "--no-ext-diff", base, head)
        patches = ("\n" + whole).split("\ndiff --git ")[1:]
        heads: list[tuple[str, str, str, str]] = []
        counts: list[tuple[int, int]] = []
        fields = iter(raw)
        for field in fields:
            if field.startswith(":"):
                *_, before, after, status = field.split(" ")
                first = next(fields)
                renamed = status[0] in "RC"
                path = next(fields) if renamed else first
                blob = before if after == NOTHING else after
                heads.append((STATUS[status[0]], path, first if renamed else "", blob))
            elif field:
                added, deleted, path = field.split("\t")
                counts.append((int(added) if added != "-" else 0, int(deleted) if deleted != "-" else 0))
                if not path:
                    next(fields), next(fields)
        return [
            Changed(status, path, before, blob, *count, patch[patch.find("\n@@") + 1 :] if "\n@@" in patch else "")
            for (status, path, before, blob), count, patch in zip(heads, counts, patches, strict=True)
        ]

    def read(self, commit: str, path: str) -> bytes | None:
        """A file of a commit; None if it is not there."""
        done = self._run(["cat-file", "blob", f"{commit}:{path}"])
        return done.stdout if done.returncode == 0 else None

    def fetch(self, other: Path, source: str, target: str) -> None:
        """Take a ref of another repository over."""
        self.git("fetch", "--quiet", "--no-tags", str(other), f"+{source}:{target}")


def git_person(account: Mapping[str, Any]) -> Person:
    """As whom GitHub writes commits of an account."""
    return Person(account.get("name") or account["login"], account["email"])
