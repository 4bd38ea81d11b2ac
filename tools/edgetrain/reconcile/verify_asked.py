"""What main asked of a model over time: its gates, its channels, and its evaluation, as git held them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edgetrain.core.desired import EvaluationFiles
from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import RepositoryError
from edgetrain.core.evaluation import evaluation_fields
from edgetrain.core.gate import gates_digest
from edgetrain.core.kinds import Model
from edgetrain.reconcile.judge import manifest_of
from edgetrain.repo.git import Git
from edgetrain.repo.load import MAX_LOCK_BYTES
from edgetrain.repo.mainline import objects_at, touching
from edgetrain.repo.snapshot import code_digest
from edgetrain.repo.tree import MANIFEST_LIMIT, CommitTree

# What of a model's folder says nothing of how it is judged.
WRITTEN = ("versions", "proposals")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_Key = tuple[str, frozenset[tuple[str, str]] | None]


@dataclass(frozen=True)
class Asked:
    """What a commit asked of the model; `code` and `lock` are the objects of its evaluation's files."""

    commit: str
    model: Model
    code: str | None = None
    lock: str | None = None

    @cached_property
    def gates(self) -> str:
        """The digest of its gates."""
        return gates_digest(self.model.gates)

    @cached_property
    def compared(self) -> Mapping[str, str]:
        """By channel of a gate, the version that it compares with."""
        model = self.model
        at = {gate.reference: model.channels.get(gate.reference) for gate in model.gates if gate.reference}
        held = {channel: number for channel, number in at.items() if number is not None}
        return {channel: f"{model.name}@{n}" for channel, n in held.items() if n not in model.withdrawn}


class Demands:
    """One look through main's history; each model's when it is first asked for. `tree` opens a commit's files."""

    def __init__(self, git: Git, tip: str, tree: Callable[[str], CommitTree]) -> None:
        self._git, self._tip, self._tree = git, tip, tree
        self._known: dict[str, list[Asked]] = {}
        self._by_gates: dict[str, dict[_Key, list[Asked]]] = {}
        self._files: dict[tuple[str, str | None], EvaluationFiles | None] = {}
        self._lacking: dict[str, bool] = {}
        # Models some of whose manifests are of a form that this version does not read.
        self.unread: set[str] = set()

    def of(self, model: str) -> list[Asked]:
        """All that main ever asked of it, newest first, each once."""
        if model not in self._known:
            self._known[model] = list(self._look(model))
        return self._known[model]

    def with_gates(self, model: str, digest: str, compared: Mapping[str, str] | None = None) -> Sequence[Asked]:
        """Those with gates of this digest; and, if told, that compare with these versions by channel."""
        if model not in self._by_gates:
            index: dict[_Key, list[Asked]] = {}
            for one in self.of(model):
                for key in ((one.gates, None), (one.gates, frozenset(one.compared.items()))):
                    index.setdefault(key, []).append(one)
            self._by_gates[model] = index
        return self._by_gates[model].get((digest, None if compared is None else frozenset(compared.items())), ())

    def fields(self, asked: Asked, of: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What the identity of its evaluation is made of, of a run with these fields; None without one."""
        if asked.model.evaluation is None or asked.code is None:
            return None
        key = asked.code, asked.lock
        if key not in self._files:
            self._files[key] = self._read(asked)
        files = self._files[key]
        return None if files is None else evaluation_fields(asked.model, files, of)

    def lacking(self, model: str) -> bool:
        """Whether this clone lacks objects of what main asked of it: then nothing says that main never did."""
        if model not in self._lacking and not _NAME.fullmatch(model):
            self._lacking[model] = False
        if model not in self._lacking:
            options = ("--objects", "--missing=print", "--full-history")
            specs = [
                f":(top,literal)models/{model}",
                *(f":(top,literal,exclude)models/{model}/{n}" for n in WRITTEN),
            ]
            done = self._git.attempt("rev-list", *options, self._git.resolve(self._tip), "--", *specs)
            self._lacking[model] = done.code != 0 or any(line.startswith(b"?") for line in done.out.split(b"\n"))
        return self._lacking[model]

    def _look(self, name: str) -> Iterator[Asked]:
        if not _NAME.fullmatch(name):
            return
        path = f"models/{name}/model.yaml"
        commits = touching(self._git, self._tip, f"models/{name}", WRITTEN)
        blobs = objects_at(self._git, [(commit, path) for commit in commits])
        models = self._models(path, {blob for blob in blobs if blob is not None})
        if None in models.values():
            self.unread.add(name)
        held = [(c, m) for c, blob in zip(commits, blobs, strict=True) if blob and (m := models[blob]) is not None]
        folders = objects_at(self._git, [(commit, model.evaluation_folder) for commit, model in held])
        locks = objects_at(self._git, [(commit, model.evaluation_lock or "") for commit, model in held])
        seen = set()
        for (commit, model), code, lock in zip(held, folders, locks, strict=True):
            own = lock if model.evaluation_lock else None
            key = id(model), code if model.evaluation else None, own
            if key not in seen:
                seen.add(key)
                yield Asked(commit, model, key[1], own)

    def _models(self, path: str, blobs: set[str]) -> dict[str, Model | None]:
        found: dict[str, Model | None] = {}
        with self._git.objects() as objects:
            small = objects.read_small(sorted(blobs))
            for blob in blobs:
                try:
                    data = small.get(blob) or objects.read(blob, MANIFEST_LIMIT)
                except RepositoryError:
                    data = None
                model = manifest_of(data, path)
                found[blob] = model if isinstance(model, Model) else None
        return found

    def _read(self, asked: Asked) -> EvaluationFiles | None:
        tree, lock = self._tree(asked.commit), asked.model.evaluation_lock
        try:
            code = code_digest(tree, asked.model.evaluation_folder, ())
            return EvaluationFiles(code, digest_bytes(tree.read(lock, MAX_LOCK_BYTES)) if lock else None)
        except RepositoryError:
            return None
