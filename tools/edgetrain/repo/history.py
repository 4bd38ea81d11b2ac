"""Facts that only git's history knows: who added, changed, proposed and approved what, and when.

Each function asks git once, or a fixed number of times, over the whole history. What a shallow clone can't
tell is marked (`certain`, `complete`), never guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from edgetrain.core.errors import RepositoryError
from edgetrain.repo.command import Running, decode
from edgetrain.repo.git import Git
from edgetrain.repo.objects import COMMIT_FIELDS, COMMIT_FORMAT, Commit, Person, parse_commit
from edgetrain.repo.opening import open_file
from edgetrain.repo.readings import HISTORY, Readings
from edgetrain.repo.tree import MANIFEST_LIMIT, REGULAR, CommitTree
from edgetrain.repo.work_tree import WorkTree

MAX_COMMITS_MERGED = 5000


def expression(patterns: Iterable[str]) -> re.Pattern[str]:
    """What matches a whole path that one of the patterns does; `*` stands for anything within a name."""
    return re.compile("|".join(re.escape(pattern).replace(r"\*", "[^/]*") for pattern in patterns))


_PULL_REQUEST = re.compile(r"Merge pull request (#\d+) from|\((#\d+)\)$")
_FIRST_PARENT = ("--first-parent", "--diff-merges=first-parent", "--no-renames")


class Addition(NamedTuple):
    """A file's first appearance on main. `ordinal` grows along main's history and is shared by files of one
    commit. Not `certain`: the clone's history starts here, the file may be older."""

    path: str
    commit: str
    ordinal: int
    time: str
    certain: bool = True


@dataclass(frozen=True)
class Change:
    """The last commit on main that touched something. Not `certain`: an older one may be meant."""

    commit: str
    time: str
    author: Person
    certain: bool = True


class Provenance(NamedTuple):
    """Who stands behind a commit on main. `proposer` and `approvers` are `name <email>`, approvers as their
    trailers say; `pull_request` is the trailer's text, or `#n`. Not `certain`: merged commits are cut off."""

    merge_commit: str
    proposer: str
    approvers: tuple[str, ...]
    pull_request: str | None
    time: str
    certain: bool = True


@dataclass(frozen=True)
class FileVersion:
    """A file as a commit on main made it. `data` is None if it was removed, or is no file within the limit."""

    commit: str
    time: str
    author: Person
    data: bytes | None = field(repr=False)
    certain: bool = True


class Difference(NamedTuple):
    """What a commit did to one file: its mode and object afterwards, and git's letter for the status."""

    mode: str
    blob: str
    status: str
    path: str


# An addition without its path; and the tip up to which additions are known, the next ordinal, and they by path.
_Facts = tuple[str, int, str, bool]
_Told = tuple[str, int, dict[str, _Facts]]
_ADDITIONS = "additions"


class Additions:
    """The first appearance on main of each file that matches one of the patterns: `*` stands for anything within a
    folder, but not in the first one. Git looks for them from now on, while other work is done: for all, or only
    for those that came after what `readings` know."""

    def __init__(self, git: Git, tip: str, patterns: Sequence[str], readings: Readings | None = None) -> None:
        self._git = git
        self._tip = git.resolve(tip)
        self._cut = git.boundary()
        self._patterns = patterns
        self._wanted = expression(patterns)
        self._readings = readings
        self._mark = (_ADDITIONS, *patterns, *sorted(self._cut), *git.grafts())
        self._known: _Told | None = readings.get(HISTORY, _ADDITIONS, self._mark) if readings else None
        # Those of main's own line that added something, as far as git was asked for them.
        self.commits: dict[str, Commit] = {}
        self._log: Running | None = None
        if self._known is None:
            self._log = self._all()
        elif self._known[0] != self._tip:
            # Not of some folders alone: the first of them must be seen to follow what is known.
            self._log = _begin_log(git, *_FIRST_PARENT, "--reverse", self._tip, f"^{self._known[0]}")

    def _all(self) -> Running:
        # Folders, not patterns: to compare each path with globs takes git longer than to tell of all in there.
        folders = sorted({pattern.partition("/")[0] for pattern in self._patterns})
        specs = (
            [f":(top,literal){folder}" for folder in folders] if not any("*" in name for name in folders) else []
        )
        # Sparse: or git compares each commit's trees twice, first to leave out those that changed nothing there.
        only = ("--reverse", "--sparse", "--diff-filter=A")
        return _begin_log(self._git, *_FIRST_PARENT, *only, self._tip, "--", *specs)

    @cached_property
    def by_path(self) -> Mapping[str, Addition]:
        """All of them, oldest first."""
        return {path: Addition(path, *facts) for path, facts in self._told().items()}

    def _told(self) -> dict[str, _Facts]:
        if self._log is None and self._known is not None:
            return self._known[2]
        found: dict[str, _Facts] = {}
        ordinal = 0
        commits = self._since()
        if commits is None:
            self._log = self._log if self._known is None else self._all()
            commits = list(_commits_of(self._log.output())) if self._log else []
        elif self._known is not None:
            _, ordinal, found = self._known
        wanted = self._wanted.fullmatch
        for commit, changes in commits:
            paths = [change.path for change in changes if change.status == "A" and wanted(change.path)]
            for path in paths:
                facts = (commit.sha, ordinal, commit.committer.time, commit.sha not in self._cut)
                found.setdefault(path, facts)
            ordinal += bool(paths)
            if paths:
                self.commits[commit.sha] = commit
        if self._readings:
            told = (self._tip, ordinal, found)
            self._readings.put(HISTORY, _ADDITIONS, self._mark, lambda: told, len(commits))
        return found

    def _since(self) -> list[tuple[Commit, list[Difference]]] | None:
        """What came after the commit that is known, if that lies on main's own line; else None."""
        if self._known is None or self._log is None:
            return None
        done = self._log.end()
        commits = list(_commits_of(done.out)) if done.code == 0 else []
        return commits if commits and commits[0][0].parents[:1] == (self._known[0],) else None

    def ordinals(self) -> Mapping[str, int]:
        """The place of each in main's history."""
        return {path: found.ordinal for path, found in self.by_path.items()}

    def stop(self) -> None:
        """Look no further."""
        if self._log:
            self._log.stop()

    def __enter__(self) -> Additions:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def mainline(git: Git, tip: str) -> list[tuple[Commit, tuple[str, ...]]]:
    """Main's own line, oldest first: each commit with the paths that it changed there."""
    log = _log(git, *_FIRST_PARENT, "--reverse", git.resolve(tip))
    return [(commit, tuple(change.path for change in changes)) for commit, changes in log]


def last_change(git: Git, tip: str, folder: str, exclude: Sequence[str] = ()) -> Change | None:
    """The newest commit on main that touched the folder (or file), except for `exclude` (paths in it)."""
    specs = [f":(top,literal){folder}"]
    specs += [f":(top,literal,exclude){folder}/{name.rstrip('/')}" for name in exclude]
    commits = git.commits(*_FIRST_PARENT, "--no-patch", "--max-count=1", git.resolve(tip), "--", *specs)
    if not commits:
        return None
    commit = commits[0]
    return Change(commit.sha, commit.committer.time, commit.author, commit.sha not in git.boundary())


def provenance(git: Git, sha: str, machines: Collection[str] = (), trailers: bool = True) -> Provenance:
    """Who proposed and approved what the commit brought to main. `machines` are e-mails that are no person's.

    Of a merge, the proposer is the author of the newest merged commit by a person (if all are by machines,
    of the newest); of any other commit, its author. What the trailers of a machine's commit say holds for what
    that commit follows from, such as the run of a proposal, so it approves nothing here. Without `trailers` those
    of people count for nothing too: a forge knows better.
    """
    commit = git.commit_info(sha)
    merged: list[Commit] = []
    if len(commit.parents) > 1:
        wanted = (commit.sha, f"^{commit.parents[0]}", f"--max-count={MAX_COMMITS_MERGED}", "--topo-order")
        merged = [c for c in git.commits("--no-patch", *wanted) if c.sha != commit.sha]
    return provenance_of(commit, merged, git.boundary(), machines, trailers)


def provenance_of(
    commit: Commit, merged: Sequence[Commit], cut: Collection[str], machines: Collection[str], trailers: bool = True
) -> Provenance:
    """The same, of a commit and what it merged, newest first; `cut` are commits whose parents are not here."""
    people = [c for c in merged if len(c.parents) < 2 and c.author.email not in machines]
    proposer = (people or merged or [commit])[0].author
    told = [c for c in (commit, *merged) if trailers and c.author.email not in machines]
    approvers = dict.fromkeys(name for c in told for name in c.trailer("Approved-by"))
    requests = [name for c in told for name in c.trailer("Pull-Request")]
    subject = _PULL_REQUEST.search(commit.subject)
    requests += [subject[1] or subject[2]] if subject else []
    certain = not any(c.sha in cut for c in (commit, *merged))
    return Provenance(
        commit.sha, str(proposer), tuple(approvers), next(iter(requests), None), commit.committer.time, certain
    )


def versions_of(git: Git, tip: str, path: str, limit: int = MANIFEST_LIMIT) -> list[FileVersion]:
    """The file as each commit on main left it that changed it, oldest first."""
    cut = git.boundary()
    log = list(_log(git, *_FIRST_PARENT, "--reverse", git.resolve(tip), "--", f":(top,literal){path}"))
    with git.objects() as objects:

        def data(change: Difference) -> bytes | None:
            if change.mode not in REGULAR:
                return None
            try:
                return objects.read(change.blob, limit)
            except RepositoryError as error:
                if error.reason == "FileTooLarge":
                    return None
                raise

        return [
            FileVersion(c.sha, c.committer.time, c.author, data(change), c.sha not in cut)
            for c, changes in log
            for change in changes
            if change.path == path
        ]


def changed_since(git: Git, base: str, tree: CommitTree | WorkTree) -> list[tuple[str, str]]:
    """What differs between the commit `base` and the tree: A, M or D and the path, sorted by path.

    For a pull request, `base` is `git.merge_base(head, tip)`.
    """
    plain = ("--no-renames", "--name-status", "-z", "--no-ext-diff", "--ignore-submodules=dirty")
    if isinstance(tree, CommitTree):
        found = _statuses(git.run("diff-tree", "-r", *plain, git.resolve(base), tree.sha))
        return sorted(((status, path) for path, status in found.items()), key=lambda pair: pair[1])
    found = _statuses(git.run("diff", *plain, git.resolve(base), "--"))
    for path in tree.untracked():
        # Gone from the index but on disk: git tells of a deletion and of a new file.
        if path not in found:
            found[path] = "A"
        elif _same(git, base, tree.root, path):
            del found[path]
        else:
            found[path] = "M"
    return sorted(((status, path) for path, status in found.items()), key=lambda pair: pair[1])


def _statuses(listing: bytes) -> dict[str, str]:
    parts = decode(listing).split("\0")
    return {p: "M" if s == "T" else s for s, p in zip(parts[0::2], parts[1::2], strict=False)}


def _same(git: Git, base: str, root: Path, path: str) -> bool:
    try:
        with os.fdopen(open_file(root, path), "rb") as file:
            data = file.read(MANIFEST_LIMIT + 1)
        return git.show(base, path) == data
    except RepositoryError:
        return False  # a link, or too large to look at: it counts as changed


def _log(git: Git, *args: str) -> Iterator[tuple[Commit, list[Difference]]]:
    """Commits with their differences, in git's order."""
    yield from _commits_of(_begin_log(git, *args).output())


def _begin_log(git: Git, *args: str) -> Running:
    # A start mark that no object id or difference begins with tells a commit from a difference.
    form = f"--format=%x02{COMMIT_FORMAT}"
    return git.begin("log", "-z", "--raw", "--no-abbrev", "--no-notes", "--no-color", form, *args)


def _commits_of(log: bytes) -> Iterator[tuple[Commit, list[Difference]]]:
    tokens = iter(decode(log).split("\0"))
    plain = log.isascii()
    current: tuple[Commit, list[Difference]] | None = None
    for token in tokens:
        if token.startswith("\x02"):
            if current:
                yield current
            fields = [token[1:], *islice(tokens, COMMIT_FIELDS - 1)]
            if not plain:
                fields = [f.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for f in fields]
            current = parse_commit(fields), []
        elif current and (told := token.lstrip("\n")).startswith(":"):
            current[1].append(difference(told, next(tokens)))
    if current:
        yield current


def difference(token: str, path: str) -> Difference:
    """Of a line of git's raw format."""
    _, mode, _, blob, status = token.removeprefix(":").split(" ")
    return Difference(mode, blob, status, path)


def globs(patterns: Sequence[str]) -> list[str]:
    """The patterns as pathspecs from the top of the tree."""
    return [f":(top,glob){pattern}" for pattern in patterns]
