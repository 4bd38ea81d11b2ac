"""Checks of the files beside manifests: misplaced ones, an experiment's code folder, its lock file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from edgetrain.core.codes import references as codes
from edgetrain.core.document import Document
from edgetrain.core.kinds import Experiment, Model, kind_at
from edgetrain.core.kinds.common import below
from edgetrain.core.problem import Code, Mark, Problem, did_you_mean, problem, shown
from edgetrain.core.record import is_record_path

MAX_LOCK_PROBLEMS = 20

# People keep notes beside manifests, and git needs a file to keep a folder.
_NOTES = re.compile(r"(.*/)?(\.gitkeep|\.gitattributes|[^/]+\.md|CODEOWNERS|OWNERS)")
_MANIFEST_LIKE = re.compile(r"compute/.*|experiments/[^/]+|experiments/[^/]+/experiment\.(yml|json)|edgetrain\.yml")
_MACHINE_FOLDERS = re.compile(r"experiments/[^/]+/runs/.*|models/[^/]+/(versions|proposals)/.*|models/[^/]+")
_AMONG_RECORDS = re.compile(r"experiments/[^/]+/runs/.*\.json|models/[^/]+/(versions|proposals)/.*\.json")
_VERSION = re.compile(r"models/[^/]+/versions/[1-9][0-9]*\.(yml|json)")
_MODEL_FILE = re.compile(r"models/[^/]+/model\.(yml|json)")

_PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._, -]+\])?\s*==\s*[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


class File(Protocol):
    """A file as a listing tells it; `target` is a link's text."""

    @property
    def path(self) -> str:
        """From the repository's root."""

    @property
    def target(self) -> str | None:
        """Where a link points."""

    @property
    def regular(self) -> bool:
        """Whether it has contents to read."""


def misplaced(paths: Iterable[str]) -> Iterator[Problem]:
    """Files where only manifests and records lie and that are neither; paths that differ only in case."""
    folders: dict[str, str] = {}
    reported = set()
    for path in paths:
        for name in _named(path):
            other = folders.setdefault(name.casefold(), name)
            if other != name and name not in reported:
                reported.add(name)
                yield problem(codes.CASE_ONLY, path, None, f"{shown(name)} and {shown(other)} differ only in case")
        if kind_at(path) or is_record_path(path) or _NOTES.fullmatch(path):
            continue
        if any(form.fullmatch(path) for form in (_MANIFEST_LIKE, _MACHINE_FOLDERS, _MODEL_FILE)):
            yield problem(
                codes.MISPLACED_FILE, path, None, f"{shown(path)} is no manifest and no record", _fix(path)
            )


def _named(path: str) -> Iterator[str]:
    """The parts of a path that name an object: the folder of an experiment or model, the file of a target."""
    top, _, rest = path.partition("/")
    if top in ("experiments", "models") and "/" in rest:
        yield f"{top}/{rest.partition('/')[0]}"
    elif top == "compute":
        yield path
    elif top.casefold() in ("experiments", "models", "compute", "edgetrain.yaml"):
        yield top


def _fix(path: str) -> str | None:
    if _AMONG_RECORDS.fullmatch(path) and not _VERSION.fullmatch(path):
        return "remove it: only the runner writes records, and names them; if it was one, put its name back"
    if path.endswith((".yml", ".json")) and kind_at(path.rpartition(".")[0] + ".yaml"):
        return f"rename it to {shown(path.rpartition('.')[0])}.yaml"
    return None


def without_manifest(paths: Iterable[str], machine: Iterable[str]) -> Iterator[Problem]:
    """Folders of experiments and models that hold files (`machine`: or records) but no manifest."""
    manifests = {"experiments": "experiment.yaml", "models": "model.yaml"}
    folders: dict[str, str] = {}
    found = set()
    for path in paths:
        parts = path.split("/", 2)
        if len(parts) == 3 and parts[0] in manifests and not _NOTES.fullmatch(path):
            folders.setdefault(f"{parts[0]}/{parts[1]}", path)
            if parts[2] == manifests[parts[0]]:
                found.add(f"{parts[0]}/{parts[1]}")
    recorded = {"/".join(path.split("/", 2)[:2]) for path in machine}
    for folder, path in folders.items():
        if folder not in found:
            top = folder.partition("/")[0]
            what = f"{shown(folder)} has no {manifests[top]}"
            if folder in recorded:
                fix = (
                    "restore the manifest with `metadata.retired: true`: what has records is not deleted or renamed"
                )
                yield problem(codes.NO_MANIFEST, path, None, what + ", but it has records", fix)
            else:
                yield problem(codes.NO_MANIFEST, path, None, what)


def inside(path: str) -> bool:
    """Whether a relative path stays in its folder."""
    return not path.startswith("/") and "\\" not in path and ".." not in path.split("/")


def check_code(experiment: Experiment, files: Sequence[File]) -> Iterator[Problem]:
    """The code folder: inside the experiment's, there, and without links. `files` are those in it."""
    yield from _code(experiment.document, ("spec", "code"), experiment.code, "experiment", files)


def check_evaluation_code(model: Model, files: Sequence[File]) -> Iterator[Problem]:
    """The evaluation's code folder: inside the model's, not that itself, there, and without links."""
    document, code = model.document, model.evaluation.code if model.evaluation else ""
    pointer = ("spec", "evaluation", "code")
    if model.evaluation_folder == model.folder:
        what = f'code "{shown(code)}" is the model\'s folder itself, with its versions in it'
        yield problem(
            codes.OUTSIDE_FOLDER, document.path, document.mark(*pointer), what, "give it a folder of its own"
        )
        return
    yield from _code(document, pointer, code, "model", files)


def _code(
    document: Document, pointer: tuple[str, ...], code: str, owner: str, files: Sequence[File]
) -> Iterator[Problem]:
    if not inside(code):
        what = f'code "{shown(code)}" lies outside the {owner}\'s folder'
        yield problem(codes.OUTSIDE_FOLDER, document.path, document.mark(*pointer), what)
        return
    if not files:
        what = f'there is no code folder "{shown(code)}"'
        yield problem(codes.CODE_MISSING, document.path, document.mark(*pointer), what)
    for file in files:
        if file.target is not None:
            what = f'{shown(file.path)} is a symbolic link to "{shown(file.target)}"'
            yield problem(codes.LINK, file.path, None, what, "put the file itself in the link's place")
        elif not file.regular:
            yield problem(codes.LINK, file.path, None, f"{shown(file.path)} is a submodule or no regular file")


def check_lock_path(
    document: Document, folder: str, lock: str, there: Mapping[str, File], pointer: tuple[str, ...]
) -> Iterator[Problem]:
    """The lock file's place: inside the folder, there, and no link. `there` are the folder's files by path."""
    if not inside(lock):
        what = f'requirements "{shown(lock)}" lies outside the folder {shown(folder)}'
        yield problem(codes.OUTSIDE_FOLDER, document.path, document.mark(*pointer), what)
        return
    path = below(folder, lock)
    file = there.get(path)
    if file is None:
        near = [name.removeprefix(folder + "/") for name in there]
        what = f'there is no lock file "{shown(lock)}" in {shown(folder)}{did_you_mean(lock, near[:200])}'
        yield problem(codes.LOCK_MISSING, document.path, document.mark(*pointer), what)
    elif not file.regular:
        what = f'the lock file "{shown(lock)}" is a link or no regular file'
        yield problem(codes.LINK, document.path, document.mark(*pointer), what)


def check_lock(path: str, data: bytes) -> Iterator[Problem]:
    """The lock file's lines: each one package, pinned by `==`, with a hash; no options, no addresses."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        yield problem(codes.LOCK_LINE, path, None, "the file is not UTF-8")
        return
    count = 0
    for line, requirement in _logical_lines(text):
        found = _faults(requirement)
        if found is None:
            continue
        count += 1
        if count > MAX_LOCK_PROBLEMS:
            yield problem(codes.LOCK_LINE, path, Mark(line), "more lines like those above follow")
            return
        code, what = found
        yield problem(code, path, Mark(line), what)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Requirements with their continuation lines joined and comments removed, by the line of their start."""
    start = 0
    parts: list[str] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        more = line.endswith("\\")
        if not parts:
            start = number
        parts.append(line.removesuffix("\\").strip())
        if not more:
            if joined_line := " ".join(filter(None, parts)):
                yield start, joined_line
            parts = []
    if joined_line := " ".join(filter(None, parts)):
        yield start, joined_line


def _faults(requirement: str) -> tuple[Code, str] | None:
    named, *options = re.split(r"\s(?=--)", requirement)
    others = [option for option in options if not option.startswith("--hash=")]
    if requirement.startswith("-") or others:
        option = re.split(r"[\s=]", requirement if requirement.startswith("-") else others[0], maxsplit=1)[0]
        return codes.LOCK_OPTION, f'"{shown(option, 40)}" is an option; a lock file holds only packages'
    specifier = named.partition(";")[0].strip()
    name = shown(re.split(r"[\s=<>!~@\[;]", specifier)[0], 60)
    if "@" in specifier or "/" in specifier:
        return codes.LOCK_OPTION, f'"{name}" is taken from an address or a path, not from the package index'
    if not _PINNED.fullmatch(specifier):
        return codes.LOCK_LINE, f'"{name}" is not pinned to one version with =='
    if not options or not all(_HASH.fullmatch(option.strip()) for option in options):
        return codes.LOCK_LINE, f'"{name}" has no --hash=sha256:...'
    return None
