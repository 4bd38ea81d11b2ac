"""The egress guard before a run: what each experiment's code holds, and which of it is waived today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from edgetrain.core.codes import CODES
from edgetrain.core.codes.egress import NOT_READABLE
from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_bytes
from edgetrain.core.document import Document, Pointer
from edgetrain.core.egress import Verdict, judge
from edgetrain.core.kinds import Experiment
from edgetrain.core.problem import Mark, Problem, problem
from edgetrain.core.snapshot import Snapshot, check_name, check_total, ending, kind_by_name, programs
from edgetrain.egress.scan import MAX_READ, Found, Piece, scan
from edgetrain.repo.git import Git
from edgetrain.repo.tree import Tree


@dataclass(frozen=True)
class _Place:
    """Where a piece's findings are told; those of a value in a document all stand where it stands."""

    path: str
    piece: Piece
    value: tuple[Document, Pointer] | None = None

    def mark(self, found: Found) -> Mark:
        """Where the finding is told."""
        return self.value[0].mark(*self.value[1]) if self.value else Mark(found.line, found.column)


def today() -> str:
    """The day in UTC, as `2026-12-31`."""
    return datetime.now(UTC).date().isoformat()


def guard(desired: Desired, tree: Tree, git: Git | None, day: str) -> Mapping[str, Verdict]:
    """The verdict on each experiment that is not retired. What was looked through before is remembered in the
    git folder, so that only new contents are."""
    experiments = [e for _, e in sorted(desired.experiments.items()) if not e.metadata.retired]
    told = {e.name: list(_by_name(desired, e)) for e in experiments}
    places = {e.name: list(_places(desired, tree, e)) for e in experiments}
    pieces = (place.piece for found in places.values() for place in found)
    found = scan(pieces, git.common_dir if git else None)
    for name, where in places.items():
        for place in where:
            told[name] += [
                problem(CODES[f.code], place.path, place.mark(f), f.what) for f in found[place.piece.key]
            ]
    return {e.name: judge(e, _once(told[e.name]), owners_of(desired, e), day) for e in experiments}


def owners_of(desired: Desired, experiment: Experiment) -> frozenset[str]:
    """Who may answer for a waiver: the owners of the experiment, its model and the configuration."""
    model = desired.models.get(experiment.model)
    platform = desired.configuration.document.data["metadata"].get("owners", ())
    return frozenset((*experiment.metadata.owners, *(model.metadata.owners if model else ()), *platform))


@dataclass(frozen=True)
class _Code:
    """What runs in the sandbox: its folder and files, the lock file's path and digest, and where the command is."""

    folder: str
    snapshot: Snapshot
    lock: tuple[str, str] | None
    command: str
    document: Document
    pointer: Pointer


def _codes(desired: Desired, experiment: Experiment) -> Iterator[_Code]:
    """The experiment's code, and that of the evaluation which its runs are judged by."""
    lock, path = desired.locks[experiment.name], experiment.lock_path
    held = (path, lock) if lock is not None and path is not None else None
    snapshot = desired.snapshots[experiment.name]
    yield _Code(experiment.code_folder, snapshot, held, experiment.command, experiment.document, ("spec",))
    model, files = desired.models.get(experiment.model), desired.evaluations.get(experiment.model)
    if model is not None and model.evaluation is not None and files is not None:
        path = model.evaluation_lock
        held = (path, files.lock) if files.lock is not None and path is not None else None
        at = ("spec", "evaluation")
        yield _Code(model.evaluation_folder, files.snapshot, held, model.evaluation.command, model.document, at)


def _by_name(desired: Desired, experiment: Experiment) -> Iterator[Problem]:
    limit = desired.configuration.code_size
    for given in _codes(desired, experiment):
        for file in given.snapshot.files:
            path = f"{given.folder}/{file.path}"
            for code, what in check_name(file, limit):
                yield problem(code, path, None, what)
            if file.size > MAX_READ:
                yield problem(NOT_READABLE, path, None, "it is too large to be looked through")
        for code, what in check_total(given.snapshot, limit):
            yield problem(code, given.document.path, given.document.mark(*given.pointer, "code"), what)


def _places(desired: Desired, tree: Tree, experiment: Experiment) -> Iterator[_Place]:
    for given in _codes(desired, experiment):
        run = programs(given.command)
        for file in given.snapshot.files:
            path = f"{given.folder}/{file.path}"
            if file.size <= MAX_READ:
                kind = kind_by_name(file.path, run)
                yield _Place(path, Piece(kind, file.digest, ending(file.path), partial(tree.read, path, MAX_READ)))
        if given.lock is not None:
            path, digest = given.lock
            yield _Place(path, Piece("lock", digest, "", partial(tree.read, path, MAX_READ)))
        text = given.command.encode()
        piece = Piece("shell", digest_bytes(text), "", partial(bytes, text))
        yield _Place(given.document.path, piece, (given.document, (*given.pointer, "command")))


def _once(found: list[Problem]) -> Iterator[Problem]:
    """A file is told once that it is data (a credential, compiled): by its name, or else by its content."""
    whole: set[tuple[str, str]] = set()
    for each in found:
        if each.code in ("E601", "E602", "E607"):
            if (each.path, each.code) in whole:
                continue
            whole.add((each.path, each.code))
        yield each
