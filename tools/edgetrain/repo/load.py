"""Reads a whole repository: manifests to desired state, records, and all problems of all files at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from edgetrain.core.checks.files import (
    check_code,
    check_evaluation_code,
    check_lock,
    check_lock_path,
    misplaced,
    without_manifest,
)
from edgetrain.core.codes import references as codes
from edgetrain.core.codes.yaml import TOO_LARGE
from edgetrain.core.desired import Desired, EvaluationFiles
from edgetrain.core.digest import digest_bytes
from edgetrain.core.document import Document
from edgetrain.core.errors import RepositoryError
from edgetrain.core.kinds import (
    ComputeTarget,
    Configuration,
    Experiment,
    Kind,
    Manifest,
    Model,
    ModelVersion,
    kind_at,
    parse,
)
from edgetrain.core.problem import Problem, Severity, problem, shown
from edgetrain.core.record import MAX_RECORD_BYTES, Record, is_record_path, read_record, record_of
from edgetrain.core.recorded import Recorded
from edgetrain.core.snapshot import Snapshot
from edgetrain.repo import reader, schema
from edgetrain.repo.beside import WORTH_IT, Copy, Ready, Value, half
from edgetrain.repo.readings import FILES, LOCKS, MANIFESTS, RECORDS, Readings
from edgetrain.repo.snapshot import snapshot
from edgetrain.repo.tree import Entry, Tree, in_order

MAX_LOCK_BYTES = 4 * 2**20
_MANAGED = ("edgetrain", "compute", "experiments", "models")


@dataclass(frozen=True)
class Loaded:
    """One reading. `desired` is None without a sound configuration; a manifest with problems is not in it.

    `broken` are the paths of manifests and records that are there and were left out, so that nobody calls
    what they hold unknown.
    """

    desired: Desired | None
    recorded: Recorded
    problems: tuple[Problem, ...]
    broken: frozenset[str] = frozenset()


def read_repository(
    tree: Tree, ordinals: Callable[[], Mapping[str, int]] = dict, readings: Readings | None = None
) -> Loaded:
    """Read every manifest and every record, each once. `ordinals` give records their place in history, and are
    asked when all manifests are read. What `readings` know is not read."""
    loading = _Loading(tree, readings)
    manifests = loading.manifests()
    desired = loading.desired(manifests)
    records = loading.records(ordinals())
    loading.problems += misplaced(loading.entries)
    loading.problems += without_manifest(loading.entries, filter(is_record_path, loading.entries))
    return Loaded(
        desired,
        Recorded.of(records),
        tuple(sorted(set(loading.problems))),
        frozenset(loading.broken),
    )


@dataclass
class _Loading:
    """What one reading gathers."""

    tree: Tree
    known: Readings | None = None
    problems: list[Problem] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    entries: dict[str, Entry] = field(init=False)
    _locks: dict[str, tuple[Problem, ...]] = field(default_factory=dict)
    # None: it can't be read, which was told.
    _records: dict[str, Value | None] = field(default_factory=dict)
    _unread: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.entries = {
            entry.path: entry
            for entry in self.tree.files()
            if entry.path.casefold().startswith(_MANAGED) and "/__pycache__/" not in entry.path
        }
        for path in filter(is_record_path, self.entries):
            if (before := self._before(RECORDS, path)) is not None:
                self._records[path] = before
            else:
                self._unread.append(path)

    def read(self, path: str, limit: int) -> bytes | None:
        """The file's bytes; None, with a problem, if it is a link, a device or too large."""
        try:
            return self.tree.read(path, limit)
        except RepositoryError as error:
            code = TOO_LARGE if error.reason == "FileTooLarge" else codes.NOT_A_FILE
            self.problems.append(problem(code, path, None, error.message))
            return None

    def records(self, ordinals: Mapping[str, int]) -> list[Record]:
        """All records that can be read."""
        for path in in_order(self.tree, [path for path in self._unread if path not in self._records]):
            self._record(path)
        for path in self._unread:
            if (value := self._records[path]) is not None:
                self._keep(RECORDS, path, partial(tuple, value))
        known = ((path, self._records[path]) for path in self.entries if path in self._records)
        return [record_of(path, *value, ordinals.get(path, 0)) for path, value in known if value is not None]

    def _record(self, path: str) -> None:
        self._records[path] = None
        data = self.read(path, MAX_RECORD_BYTES)
        if data is not None:
            try:
                self._records[path] = read_record(path, data)
                return
            except ValueError as error:
                self.problems.append(problem(codes.BAD_RECORD, path, None, shown(error, 300)))
        self.broken.add(path)

    def manifests(self) -> list[Manifest]:
        """All manifests without a problem of their own."""
        jobs: list[tuple[str, Kind]] = []
        for path in self.entries:
            kind = kind_at(path)
            if kind is not None:
                jobs.append((path, kind))
                continue
            # Misplaced by its ending alone: what it declares is not called unknown besides.
            stem, _, ending = path.rpartition(".")
            if ending in ("yml", "json") and kind_at(stem + ".yaml"):
                self.broken.add(stem + ".yaml")
        found = {}
        unknown = []
        for path, kind in jobs:
            if (before := self._before(MANIFESTS, path)) is not None:
                read = partial(self.tree.read, path, reader.MAX_BYTES)
                found[path] = parse(reader.known_document(read, path, *before), kind)
            else:
                unknown.append((path, kind))
        for path, manifest in self._read_all(unknown):
            if manifest is None:
                self.broken.add(path)
            else:
                found[path] = manifest
        return [found[path] for path, _ in jobs if path in found]

    def _read_all(self, jobs: Sequence[tuple[str, Kind]]) -> Iterator[tuple[str, Manifest | None]]:
        """Every manifest; of many, half are read by a second process meanwhile, and half of the records, too."""
        records = self._unread
        named = [(path, kind.name) for path, kind in jobs]
        worth_it = len(jobs) + len(records) >= WORTH_IT
        copy = Copy(lambda: half(self.tree, named, records)) if worth_it else None
        if copy is None or not copy.working:
            yield from self._read_these(jobs)
            return
        with copy:
            yield from self._read_these(jobs[::2], records[::2])
            found: tuple[dict[str, Ready], dict[str, Value]] | None = copy.collect()
        ready, values = found or ({}, {})
        self._records |= values
        for path, kind in jobs[1::2]:
            if path in ready:
                document = reader.plain_document(ready[path][0], path, ready[path][1])
                yield path, self._placed(document, kind, [])
            else:
                yield path, self._manifest(path, kind)

    def _read_these(
        self, jobs: Sequence[tuple[str, Kind]], records: Sequence[str] = ()
    ) -> Iterator[tuple[str, Manifest | None]]:
        kinds = dict(jobs)
        for path in in_order(self.tree, [*kinds, *records]):
            if path in kinds:
                yield path, self._manifest(path, kinds[path])
            else:
                self._record(path)

    def _manifest(self, path: str, kind: Kind) -> Manifest | None:
        data = self.read(path, reader.MAX_BYTES)
        if data is None:
            return None
        document, problems = reader.read(data, path)
        if document is None:
            self.problems += problems
            return None
        return self._placed(document, kind, [*problems, *schema.check(document, kind.name)])

    def _placed(self, document: Document, kind: Kind, problems: list[Problem]) -> Manifest | None:
        problems += _place(document, kind)
        self.problems += problems
        if not problems:
            self._keep(MANIFESTS, document.path, partial(_manifest, document, self.known))
        return None if _stops(problems) else parse(document, kind)

    def desired(self, manifests: Iterable[Manifest]) -> Desired | None:
        """The desired state; experiments whose code or lock can't be told are left out as broken."""
        by_type: dict[type[Manifest], list[Any]] = {}
        for manifest in manifests:
            by_type.setdefault(type(manifest), []).append(manifest)
        experiments: dict[str, Experiment] = {}
        code: dict[str, Snapshot] = {}
        locks: dict[str, str | None] = {}
        for experiment in by_type.get(Experiment, []):
            digests = self._digests(experiment)
            if digests is None:
                self.broken.add(experiment.document.path)
            else:
                experiments[experiment.name] = experiment
                code[experiment.name], locks[experiment.name] = digests
        configuration: list[Configuration] = by_type.get(Configuration, [])
        if not configuration:
            what = (
                "edgetrain.yaml has problems" if "edgetrain.yaml" in self.broken else "there is no edgetrain.yaml"
            )
            what += ": references could not be checked"
            self.problems.append(problem(codes.NO_CONFIGURATION, "edgetrain.yaml", None, what))
            return None
        targets: list[ComputeTarget] = by_type.get(ComputeTarget, [])
        models: list[Model] = by_type.get(Model, [])
        evaluated = ((model, self._evaluation(model)) for model in models if model.evaluation is not None)
        evaluations = {model.name: files for model, files in evaluated if files is not None}
        versions: list[ModelVersion] = by_type.get(ModelVersion, [])
        return Desired(
            configuration=configuration[0],
            targets={target.metadata.name: target for target in targets},
            experiments=experiments,
            models={model.name: model for model in models},
            versions={(version.model, version.number): version for version in versions},
            code={name: found.digest for name, found in code.items()},
            locks=locks,
            snapshots=code,
            evaluations=evaluations,
        )

    def _evaluation(self, model: Model) -> EvaluationFiles | None:
        """The digests of the evaluation's code and lock, or None, with problems, if they can't be told."""
        folder, document = model.evaluation_folder, model.document
        there = {entry.path: entry for entry in self.tree.files(model.folder)}
        code = [entry for entry in there.values() if (entry.path + "/").startswith(folder + "/")]
        found = list(check_evaluation_code(model, code))
        lock, digest = model.evaluation_lock, None
        if lock is not None:
            name, pointer = (
                lock.removeprefix(model.folder + "/"),
                ("spec", "evaluation", "environment", "requirements"),
            )
            found += check_lock_path(document, model.folder, name, there, pointer)
        if not _stops(found) and lock is not None:
            digest, wrong = self._lock(lock)
            if digest is None:
                return None
            found += wrong
        files = None
        if not _stops(found):
            try:
                files = snapshot(self.tree, folder, (), self._measure)
            except RepositoryError as error:
                mark = document.mark("spec", "evaluation", "code")
                found.append(problem(codes.LINK, document.path, mark, error.message, error.fix or None))
        self.problems += found
        return None if files is None else EvaluationFiles(files.digest, digest, files)

    def _digests(self, experiment: Experiment) -> tuple[Snapshot, str | None] | None:
        """The code's files and the lock's digest, or None, with problems, if they can't be told."""
        there = {entry.path: entry for entry in self.tree.files(experiment.folder)}
        found = list(check_code(experiment, _code_files(experiment, there.values())))
        lock = experiment.environment.requirements
        if lock is not None:
            pointer = ("spec", "environment", "requirements")
            found += check_lock_path(experiment.document, experiment.folder, lock, there, pointer)
        lock_digest = None
        if not _stops(found) and experiment.lock_path is not None:
            lock_digest, wrong = self._lock(experiment.lock_path)
            if lock_digest is None:
                return None
            found += wrong
        if not _stops(found):
            try:
                code = snapshot(self.tree, experiment.code_folder, measure=self._measure)
            except RepositoryError as error:
                mark = experiment.document.mark("spec", "code")
                found.append(problem(codes.LINK, experiment.document.path, mark, error.message, error.fix or None))
        self.problems += found
        return None if _stops(found) else (code, lock_digest)

    def _lock(self, path: str) -> tuple[str | None, list[Problem]]:
        """The lock's digest, None if it can't be read, and what is wrong with it. The same lock is often used by
        many experiments; it is looked through once."""
        if (before := self._before(LOCKS, path)) is not None:
            return before, []
        data = self.read(path, MAX_LOCK_BYTES)
        if data is None:
            return None, []
        digest = digest_bytes(data)
        if digest not in self._locks:
            self._locks[digest] = tuple(check_lock(path, data))
        if not self._locks[digest]:
            self._keep(LOCKS, path, lambda: digest)
        return digest, [replace(found, path=path) for found in self._locks[digest]]

    def _measure(self, path: str) -> tuple[int, str]:
        found: tuple[int, str] | None = self._before(FILES, path)
        if found is None:
            found = self.tree.measure(path)
            self._keep(FILES, path, partial(tuple, found))
        return found

    def _before(self, sort: str, path: str) -> Any:
        """What was read of the file before, None if it is to be read."""
        mark = self.tree.mark(path) if self.known is not None else None
        return None if mark is None or self.known is None else self.known.get(sort, path, mark)

    def _keep(self, sort: str, path: str, value: Callable[[], Any]) -> None:
        """Remember what was read of the file, and was without any problem."""
        if self.known is not None and (mark := self.tree.mark(path)) is not None:
            self.known.put(sort, path, mark, value)


def _manifest(document: Document, readings: Readings | None) -> tuple[dict[str, Any], str | None]:
    return document.data, document.digest if readings and readings.digests else None


def _code_files(experiment: Experiment, entries: Iterable[Entry]) -> list[Entry]:
    folder = experiment.code_folder + "/"
    own = (experiment.folder + "/experiment.yaml", experiment.folder + "/runs/")
    return [
        entry
        for entry in entries
        # The folder itself is listed only if it is a link or a submodule.
        if (entry.path + "/").startswith(folder) and not entry.path.startswith(own)
    ]


def _stops(problems: Iterable[Problem]) -> bool:
    return any(found.severity is Severity.PROBLEM for found in problems)


def _place(document: Document, kind: Kind) -> Iterator[Problem]:
    """Whether the names inside equal those of the path; a value of a wrong type is the schema's matter."""
    found = kind.place.fullmatch(document.path)
    named = found.groupdict() if found else {}
    wanted: dict[tuple[str, ...], Any] = {}
    if "name" in named:
        wanted["metadata", "name"] = named["name"]
    elif "model" in named:
        number = named["number"]
        wanted["spec", "model"] = named["model"]
        wanted["spec", "version"] = int(number) if number.isdecimal() and str(int(number)) == number else number
        wanted["metadata", "name"] = f"{named['model']}-{number}"
    for pointer, name in wanted.items():
        value: Any = document.data
        for key in pointer:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str | int) and not isinstance(value, bool) and value != name:
            what = f"{'.'.join(pointer)} is {shown(value)}, and the path says {shown(name)}"
            yield problem(codes.NAME_DIFFERS, document.path, document.mark(*pointer), what)
