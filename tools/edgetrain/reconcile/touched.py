"""Finds the versions and channels that some data, a commit or a package touches, from git alone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import RepositoryError, UsageError
from edgetrain.core.lock import normal, pins, same_version
from edgetrain.core.problem import shown
from edgetrain.core.record import RunRecord
from edgetrain.reconcile.lookup import read_main, unread_files
from edgetrain.reconcile.state import State
from edgetrain.reconcile.verify_runs import read_experiment
from edgetrain.render.touched import Touched, TouchedRun, TouchedVersion
from edgetrain.repo.load import MAX_LOCK_BYTES
from edgetrain.repo.tree import CommitTree

LEAST = 7
_DIGEST = re.compile(rf"(?:sha256:)?[0-9a-f]{{{LEAST},64}}")
_COMMIT = re.compile(rf"[0-9a-f]{{{LEAST},64}}")
_PACKAGE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\s*==\s*(?P<version>[A-Za-z0-9][A-Za-z0-9.+!_-]*))?")
# How each run is touched, by the digest of its record.
Found = dict[str, list[str]]


def by_data(root: Path, text: str) -> Touched:
    """What was trained or measured on the data of this digest (or its beginning). Raises UsageError."""
    state = read_main(root)
    if not _DIGEST.fullmatch(text):
        raise UsageError(
            f"--data {shown(text)!r} is no digest", fix="give sha256:<64 hex digits>, or how it begins"
        )
    wanted = "sha256:" + text.removeprefix("sha256:")
    found: Found = defaultdict(list)
    meant = set()
    for run in state.recorded.runs:
        for how, digest in _inputs(run.data):
            if digest.startswith(wanted):
                meant.add(digest)
                found[run.digest].append(how)
    for record in state.recorded.evaluations:
        for how, digest in _evaluated(record.data):
            if digest.startswith(wanted):
                meant.add(digest)
                found[record.run].append(how)
    if len(meant) > 1:
        listed = ", ".join(sorted(one[:23] for one in meant)[:5])
        raise UsageError(f"{shown(text)} could be {len(meant)} digests", fix=f"give more of it: {listed}")
    return _answer(state, f"data {next(iter(meant), wanted)}", found)


def _inputs(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, entry in sorted(data["inputs"].items()):
        yield f"trained on it as {name}", str(entry["digest"])
    yield from _evaluated(data)


def _evaluated(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    evaluation = data.get("evaluation")
    inputs = evaluation.get("inputs") if isinstance(evaluation, dict) else None
    for name, entry in sorted(inputs.items()) if isinstance(inputs, dict) else ():
        digest = entry.get("digest") if isinstance(entry, dict) else entry
        yield f"measured on it as {name}", str(digest)


def by_commit(root: Path, text: str) -> Touched:
    """What was trained from a commit, came by it, or ran code that it changed. Raises UsageError."""
    state = read_main(root)
    if not _COMMIT.fullmatch(text):
        raise UsageError(f"--commit {shown(text)!r} is no commit", fix="give its id, seven hex digits at least")
    untold, sha, experiments = [], text, {}
    try:
        sha = state.git.resolve(text)
        experiments = _changed_code(state, sha)
    except RepositoryError:
        untold.append(f"commit {text} is not in this clone: only records that name it are found")
    found: Found = defaultdict(list)
    releases: Found = defaultdict(list)
    for run in state.recorded.runs:
        behind = run.data.get("provenance") or {}
        if str(run.data["commit"]).startswith(sha):
            found[run.digest].append("trained from it")
        if str(behind.get("mergeCommit") or "").startswith(sha):
            found[run.digest].append("its experiment came by it")
        if run.experiment in experiments and run.data["commit"] in experiments[run.experiment]:
            found[run.digest].append("ran code that it changed, or what later commits made of that")
    for release in state.recorded.releases:
        behind = release.data.get("provenance") or {}
        if str(behind.get("mergeCommit") or "").startswith(sha):
            event = f"{release.data['channel']} moved" if release.event == "channel" else release.event
            releases[f"{release.model}@{release.version}"].append(f"{event} by it")
    if state.git.is_shallow():
        untold.append("this clone is shallow: what an older commit changed can't be told")
    return _answer(state, f"commit {sha}", found, releases, untold)


def _changed_code(state: State, sha: str) -> dict[str, frozenset[str]]:
    """The experiments whose code the commit changed, each with the commits that came of it."""
    listing = state.git.run("diff-tree", "-r", "-m", "--root", "-z", "--no-commit-id", "--name-only", sha)
    paths = [path.split("/") for path in listing.decode("utf-8", "surrogateescape").split("\0")]
    names = {p[1] for p in paths if len(p) > 2 and p[0] == "experiments" and p[2] != "runs"}
    if not names:
        return {}
    later = state.git.text("rev-list", "--ancestry-path", f"{sha}..{state.commit}").splitlines()
    return dict.fromkeys(names, frozenset({sha, *later}))


def by_package(root: Path, text: str) -> Touched:
    """What was trained with a package, as locks at the recorded commits pin it for each run's Python and platform.

    Raises UsageError.
    """
    state = read_main(root)
    asked = _PACKAGE.fullmatch(text)
    if asked is None:
        raise UsageError(f"--package {shown(text)!r} names no package", fix="write NAME==VERSION, or NAME alone")
    name, version = normal(asked["name"]), asked["version"]
    found: Found = defaultdict(list)
    locks: dict[str, str | None] = {}
    images, unread = 0, 0
    for run in state.recorded.runs:
        environment = run.data["environment"]
        images += environment.get("image") is not None
        digest = environment.get("requirements")
        if digest is None:
            continue
        if digest not in locks:
            locks[digest] = _lock(state, run, digest)
        lock = locks[digest]
        unread += lock is None
        for other, at in pins(lock or "", environment.get("python"), environment.get("platform")):
            if other == name and (version is None or same_version(at, version)):
                found[run.digest].append(f"trained with {other}=={at}")
    untold = (
        [f"the locks of {unread} run(s) can't be read here, or are not those of their records"] if unread else []
    )
    if images:
        untold.append(f"what the base images of {images} run(s) hold besides is not in git")
    return _answer(state, f"package {text}", found, untold=untold)


def _lock(state: State, run: RunRecord, digest: str) -> str | None:
    """The run's lock; None if this clone does not have it, or has other bytes."""
    path = f"experiments/{run.experiment}/experiment.yaml"
    try:
        tree = CommitTree(state.git, state.git.resolve(run.data["commit"]))
        experiment = read_experiment(tree.read(path), path)
        if experiment is None or experiment.lock_path is None:
            return None
        lock = tree.read(experiment.lock_path, MAX_LOCK_BYTES)
    except RepositoryError:
        return None
    return lock.decode("utf-8", "replace") if digest_bytes(lock) == digest else None


def _answer(
    state: State, question: str, found: Found, releases: Found | None = None, untold: list[str] | None = None
) -> Touched:
    recorded, desired, named = state.recorded, state.desired, releases or {}
    unread = unread_files(state)
    versions, cited = [], set()
    for (model, number), version in sorted(desired.versions.items()):
        cited.add(version.record)
        how = [*found.get(version.record, ()), *named.get(version.id, ())]
        if not how:
            continue
        now = {name for name, at in recorded.channels(model).items() if at == number}
        moves = [r.data for r in recorded.releases if r.model == model and r.event == "channel"]
        ever = {str(data["channel"]) for data in moves if data["to"] == number}
        release = recorded.release(model, number)
        versions.append(
            TouchedVersion(
                version=version.id,
                run=f"{version.experiment}-{version.run}",
                how=tuple(dict.fromkeys(how)),
                channels=tuple(sorted(now)),
                before=tuple(sorted(ever - now)),
                released=release is not None,
                withdrawn=desired.models[model].withdrawn.get(number) if model in desired.models else None,
                image=str(release.data["image"]["digest"]) if release else "",
            )
        )
    runs = [
        TouchedRun(run.run_id, run.model, recorded.outcome(run).value, tuple(dict.fromkeys(found[run.digest])))
        for run in recorded.runs
        if run.digest in found and run.digest not in cited
    ]
    return Touched(question, state.commit, tuple(versions), tuple(runs), (*(untold or ()), *unread))
