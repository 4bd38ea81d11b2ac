"""Judges main itself: were its records written by the machine, and are they all still there?"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgetrain.core.checks.main import Main, Touch, Wrong, wrong_records
from edgetrain.core.codes.history import HISTORY_UNKNOWN
from edgetrain.core.kinds import Configuration, Model, kind_at, parse
from edgetrain.core.problem import Problem, problem
from edgetrain.reconcile.state import State
from edgetrain.repo import reader, schema
from edgetrain.repo.git import Git
from edgetrain.repo.history import versions_of
from edgetrain.repo.objects import OID
from edgetrain.repo.record_history import RecordCommit, record_commits, records_at, records_before, signatures
from edgetrain.repo.vouched import before_file

ALLOWED_SIGNERS = ".github/allowed_signers"
CONFIGURATION = "edgetrain.yaml"

# Inside the git folder: a commit can't bring a file there, and cleaning the checkout leaves it.
_MEMORY = "edgetrain-judged.json"
_RULE = 1


@dataclass(frozen=True)
class Judgement:
    """What is wrong with main's records, and the warnings of what can't be told here."""

    wrong: tuple[Wrong, ...] = ()
    warnings: tuple[Problem, ...] = ()


def judge(git: Git, tip: str, signers: bytes | None, machine: str, afresh: bool = False) -> Judgement:
    """Judge the records of main's tip, given the signers that it lists and the machine's e-mail.

    What was found good is remembered in the git folder, so that only new commits are looked at. Signatures
    count from the commit that first listed signers; without any, the committer must be a machine that main's
    configuration names or once named. With `afresh` nothing that was remembered counts.
    """
    facts = [_RULE, None if signers is None else signers.hex(), machine]
    rule = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    memory = git.common_dir / _MEMORY
    known, same = (None, False) if afresh else _remembered(memory, rule)
    since, earlier = known if same else None, ""
    if since == tip:
        return Judgement()
    if known and git.attempt("merge-base", "--is-ancestor", known, tip).code != 0:
        since, earlier = None, known
    found = record_commits(git, tip, since)
    touching = [commit.commit for commit in found.commits]
    vouched: frozenset[str] = frozenset()
    if signers is not None and since is None:
        vouched = before_file(git, tip, ALLOWED_SIGNERS, touching)
    signed = [sha for sha in touching if sha not in vouched] if signers is not None else []
    states = signatures(git, signed, signers) if signers is not None else {}
    machines = {machine}
    if signers is None and any(commit.committer.email != machine for commit in found.commits):
        machines.update(machines_of(git, tip))
    verifiable = not signed or shutil.which("ssh-keygen") is not None
    present = records_at(git, tip)
    start = {path: blob for commit in found.cut for path, blob in records_at(git, commit).items()}
    main = Main(
        start=start | (records_before(git, since, tip, present) if since else {}),
        present=present,
        touches=[_touch(git, commit, commit.commit in vouched, states) for commit in found.commits],
        machines=machines,
        signers=signers is not None,
        verifiable=verifiable,
        earlier=earlier,
        had=_had(git, earlier),
    )
    wrong = tuple(wrong_records(main))
    warnings = tuple(_warnings(found.complete, verifiable, len(signed)))
    if not wrong and not warnings:
        _remember(memory, rule, tip)
    return Judgement(wrong, warnings)


def judge_tip(state: State, afresh: bool = False) -> Judgement:
    """Judge the records of the commit that was read; with `afresh` all of its history."""
    signers = None
    if state.tree.exists(ALLOWED_SIGNERS):
        signers = state.tree.read(ALLOWED_SIGNERS)
    return judge(state.git, state.commit, signers, state.desired.configuration.machine.email, afresh)


def manifest_of(data: bytes | None, path: str) -> Configuration | Model | None:
    """A manifest's value; None if it is not there or not sound."""
    kind = kind_at(path)
    document = reader.read(data, path)[0] if data is not None else None
    if kind is None or document is None or schema.check(document, kind.name):
        return None
    found = parse(document, kind)
    return found if isinstance(found, Configuration | Model) else None


def automatic_models(git: Git, commit: str, others: Iterable[str]) -> Iterator[str]:
    """The models that release by themselves as of the commit, among those that the paths belong to."""
    for name in sorted({path.split("/")[1] for path in others if path.startswith("models/")}):
        path = f"models/{name}/model.yaml"
        model = manifest_of(git.show(commit, path), path)
        if isinstance(model, Model) and model.release == "automatic":
            yield name


def _touch(git: Git, found: RecordCommit, vouched: bool, states: dict[str, str]) -> Touch:
    return Touch(
        found.commit,
        found.committer.email,
        dict(found.blobs),
        found.other_paths,
        states.get(found.commit, "unknown"),
        frozenset() if vouched else frozenset(automatic_models(git, found.commit, found.other_paths)),
        len(found.parents) > 1,
        vouched,
    )


def machines_of(git: Git, tip: str) -> frozenset[str]:
    """The e-mails of all machines that main's configuration ever named."""
    found = (manifest_of(version.data, CONFIGURATION) for version in versions_of(git, tip, CONFIGURATION))
    return frozenset(one.machine.email for one in found if isinstance(one, Configuration))


def _had(git: Git, earlier: str) -> dict[str, str]:
    """The records of a tip that was judged before history was rewritten, if its commit is still here."""
    there = earlier and git.attempt("cat-file", "-e", f"{earlier}^{{commit}}").code == 0
    return records_at(git, earlier) if there else {}


def _warnings(complete: bool, verifiable: bool, count: int) -> Iterator[Problem]:
    if not complete:
        what = "the clone is shallow: who wrote the records of main's older commits can't be told"
        yield problem(HISTORY_UNKNOWN, ".", None, what)
    if not verifiable:
        what = f"there is no ssh-keygen here: signatures of {count} commit(s) on main can't be checked"
        yield problem(HISTORY_UNKNOWN, ".", None, what, "Install OpenSSH's ssh-keygen (package openssh-client).")


def _remembered(memory: Path, rule: str) -> tuple[str | None, bool]:
    """The tip last found good, and whether it was by the same rule."""
    try:
        with memory.open("rb") as file:
            value = json.loads(file.read(4096))
    except (OSError, ValueError, RecursionError):
        return None, False
    tip = value.get("tip") if isinstance(value, dict) else None
    if not isinstance(tip, str) or not OID.fullmatch(tip):
        return None, False
    return tip, value.get("rule") == rule


def _remember(memory: Path, rule: str, tip: str) -> None:
    # What can't be written is judged again: slower, and no less right.
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(prefix=_MEMORY, dir=memory.parent)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                json.dump({"rule": rule, "tip": tip}, file)
            Path(name).replace(memory)
        except OSError:
            Path(name).unlink()
