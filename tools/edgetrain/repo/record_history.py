"""The commits that touched records, and what each did to them: what main itself, and an audit, are judged by.

Like history.py, each function asks git a fixed number of times, and marks what a shallow clone can't tell.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetrain.repo.command import decode
from edgetrain.repo.git import Git
from edgetrain.repo.history import Difference, difference, expression, globs
from edgetrain.repo.objects import COMMIT_FIELDS, COMMIT_FORMAT, Commit, Person, parse_commit

# Wider than the names that records have now: whatever lies here is the machine's.
RECORD_PATHS = (
    "experiments/*/runs/*.json",
    "models/*/versions/*.release-*.json",
    "models/*/proposals/*.json",
)
_RECORD = expression(RECORD_PATHS)
_SIGNATURES = {"G": "good", "B": "bad", "R": "bad", "X": "bad", "Y": "bad", "N": "none"}


@dataclass(frozen=True)
class RecordCommit:
    """A commit that touched records. `signature` is `good`, `bad`, `none`, or `unknown` (not checked, or by a
    key that is not allowed); `signer` is the principal of a good one. `changes` maps record paths to A, M, D
    or T, and `blobs` to the object that is there afterwards (None: removed); `other_paths` is what else the
    commit changed."""

    commit: str
    parents: tuple[str, ...]
    author: Person
    committer: Person
    record_paths: tuple[str, ...]
    other_paths: tuple[str, ...]
    changes: tuple[tuple[str, str], ...]
    blobs: tuple[tuple[str, str | None], ...]
    signature: str
    signer: str = ""


@dataclass(frozen=True)
class RecordHistory:
    """All commits that touched records, oldest first. Not `complete`: older ones are cut off, before `cut`."""

    commits: tuple[RecordCommit, ...]
    complete: bool
    cut: tuple[str, ...] = ()


def record_commits(
    git: Git, tip: str, since: str | None = None, allowed_signers: bytes | None = None
) -> RecordHistory:
    """All commits of the history (not only main's own line) after `since` that touched RECORD_PATHS.

    A merge counts only for what it alone did: a file that no parent has so, or one that a parent has and the
    merge dropped. Signatures are checked against `allowed_signers` (the file's bytes), else `unknown`.
    """
    asked = (git.resolve(tip), *((f"^{git.resolve(since)}",) if since else ()))
    if since is not None and asked[1] == f"^{asked[0]}":
        return RecordHistory((), complete=True)
    listed = git.run("rev-list", "--reverse", "--topo-order", "--parents", *asked).decode().splitlines()
    parents = {shas[0]: shas[1:] for shas in (line.split() for line in listed)}
    cut = git.boundary()
    known = [sha for sha in parents if sha not in cut]
    cut_here = tuple(sha for sha in parents if sha in cut)
    touching = [
        sha
        for sha, changes in _diff_trees(git, known, *globs(RECORD_PATHS)).items()
        if _own(changes, len(parents[sha]))
    ]
    if not touching:
        return RecordHistory((), not cut_here, cut_here)
    everything = _diff_trees(git, touching)
    facts = _signed(git, touching, allowed_signers)
    commits = []
    for sha in touching:
        commit, signature, signer = facts[sha]
        own = _own(everything[sha], len(parents[sha]))
        records = {path: status for path, status in own.items() if _RECORD.fullmatch(path)}
        blobs = {change.path: change.blob if change.blob.strip("0") else None for change in everything[sha]}
        commits.append(
            RecordCommit(
                sha,
                commit.parents,
                commit.author,
                commit.committer,
                tuple(sorted(records)),
                tuple(sorted(own.keys() - records.keys())),
                tuple(sorted(records.items())),
                tuple((path, blobs[path]) for path in sorted(records)),
                signature,
                signer,
            )
        )
    return RecordHistory(tuple(commits), not cut_here, cut_here)


def records_at(git: Git, commit: str) -> dict[str, str]:
    """Every file at RECORD_PATHS in the commit's tree, whatever its contents: path and object."""
    listing = git.run("ls-tree", "-r", "-z", "--full-tree", commit, "--", "experiments", "models")
    found = {}
    for line in filter(None, decode(listing).split("\0")):
        facts, _, path = line.partition("\t")
        if _RECORD.fullmatch(path):
            found[path] = facts.split(" ")[2]
    return found


def records_before(git: Git, earlier: str, later: str, present: Mapping[str, str]) -> dict[str, str]:
    """`records_at` of the earlier commit, from those `present` at the later one: git compares two trees in the time
    that their differences take."""
    args = ("-r", "-z", "--no-renames", "--no-abbrev", "--raw")
    tokens = iter(decode(git.run("diff-tree", *args, later, earlier, "--", "experiments", "models")).split("\0"))
    found = dict(present)
    for token in filter(None, tokens):
        change = difference(token, next(tokens))
        if change.status == "D":
            found.pop(change.path, None)
        elif _RECORD.fullmatch(change.path):
            found[change.path] = change.blob
    return found


def signatures(git: Git, commits: Sequence[str], allowed_signers: bytes) -> dict[str, str]:
    """The state of each commit's signature, as in RecordCommit; some 10 ms a commit."""
    return {sha: state for sha, (_, state, _) in _signed(git, commits, allowed_signers).items()} if commits else {}


def _own(changes: Sequence[Difference], parents: int) -> dict[str, str]:
    """Of a commit's differences to each parent, those that are its own doing: path and status."""
    by_path: dict[str, list[str]] = {}
    for change in changes:
        by_path.setdefault(change.path, []).append(change.status)
    found = {}
    for path, statuses in by_path.items():
        lost = _RECORD.fullmatch(path) and any(status != "A" for status in statuses)
        if len(statuses) >= max(parents, 1) or lost:
            found[path] = next((status for status in statuses if status != "A"), "A")
    return found


def _diff_trees(git: Git, commits: Sequence[str], *pathspecs: str) -> dict[str, list[Difference]]:
    """Differences of each commit to each of its parents, in one go and without simplifying history."""
    text = "".join(f"{sha}\n" for sha in commits).encode()
    args = ("--stdin", "-m", "--root", "-r", "-z", "--no-renames", "--no-abbrev", "--raw")
    tokens = iter(decode(git.run("diff-tree", *args, "--", *pathspecs, input=text)).split("\0"))
    found: dict[str, list[Difference]] = {}
    current: list[Difference] = []
    for token in tokens:
        if token.startswith(":"):
            current.append(difference(token, next(tokens)))
        elif token:
            current = found.setdefault(token, [])
    return found


def _signed(git: Git, commits: Sequence[str], allowed_signers: bytes | None) -> dict[str, tuple[Commit, str, str]]:
    """Each commit with the state of its signature and its signer."""
    text = "".join(f"{sha}\n" for sha in commits).encode()
    if allowed_signers is None or shutil.which("ssh-keygen") is None:
        plain = git.commits("--no-walk=unsorted", "--no-patch", "--stdin", input=text)
        return {commit.sha: (commit, "unknown", "") for commit in plain}
    with tempfile.TemporaryDirectory(prefix="edgetrain-") as folder:
        signers = Path(folder) / "allowed_signers"
        signers.write_bytes(allowed_signers)
        # Only SSH keys count: what somebody's own OpenPGP keyring trusts says nothing here.
        config = (
            f"gpg.ssh.allowedSignersFile={signers}",
            "gpg.ssh.program=ssh-keygen",
            *(f"{name}=false" for name in ("gpg.program", "gpg.openpgp.program", "gpg.x509.program")),
        )
        form = f"--format={COMMIT_FORMAT}%x00%G?%x00%GS"
        args = ("--no-walk=unsorted", "--no-patch", "--no-notes", "--no-color", form, "--stdin")
        data = git.run("log", "-z", *args, input=text, config=config, timeout=1800)
    fields = data.decode("utf-8", "replace").split("\0")[:-1]
    found = {}
    for at in range(0, len(fields), COMMIT_FIELDS + 2):
        commit = parse_commit(fields[at : at + COMMIT_FIELDS])
        state, signer = fields[at + COMMIT_FIELDS : at + COMMIT_FIELDS + 2]
        signature = _SIGNATURES.get(state, "unknown")
        found[commit.sha] = (commit, signature, signer if signature == "good" else "")
    return found
