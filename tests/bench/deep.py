"""`verify --deep` of a released version: every byte of its artifacts and its image is hashed again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from edgetrain.core.digest import tree_digest
from edgetrain.providers.folder.artifacts import FolderArtifacts
from tests.apply.site import SmallSite
from tests.bench.data import hashers
from tests.bench.runner import EDGETRAIN, Contestant, Race, command
from tests.bench.sample import with_records, with_versions

SIZE, UNIT = 2500, "MB of model, in four files, which lie in the artifact store and once more in the image"
FILES = 4
# Where the sample experiment declares its output: a folder here.
ROOT = "model.json"
NOTE = (
    "The version was released by `apply`: its files lie in the store's folder, and in a layer of the image layout. "
    "The programs beside it hash the same files, as many at a time as there are processors. `verify` also starts, "
    "reads the history and asks the workspace: importing MLflow is one to two seconds of it."
)


def bench(folder: Path, size: int) -> Iterator[Race]:
    """One race."""
    site = SmallSite(folder).make()
    site.edit("experiments/mean/experiment.yaml", "maxSize: 1Mi", f"maxSize: {size}Mi")
    site.push("Allow a large model")
    store, source = FolderArtifacts(root=site.state / "artifacts"), random.Random(1)
    files = []
    for number in range(FILES):
        made = folder / "made"
        with made.open("wb") as stream:
            for _ in range(size // FILES):
                stream.write(source.randbytes(10**6))
        stored = store.put_file(made)
        files.append({"path": f"{ROOT}/{number}.bin", "digest": stored, "size": made.stat().st_size})
        made.unlink()
    digest = tree_digest((str(file["path"]), str(file["digest"])) for file in files)
    model = {"type": "custom_model", "path": ROOT, "digest": digest, "size": size * 10**6}
    with_records(site, score=lambda change, experiment: 0.9, outputs={"model": {**model, "files": files}})
    with_versions(site, "mean")
    done = site.apply()
    if not done.good:
        raise RuntimeError(f"the release failed: {done.results}")
    site.sync()
    bytes_ = [path for part in ("artifacts", "images") for path in _large(site.state / part)]
    verify = Contestant(
        "`edgetrain verify --deep`", command(EDGETRAIN, "verify", "--deep", "mean@1", cwd=site.clone)
    )
    title = f"Verify a released model of {size / 1000:g} GB, every byte of its artifacts and its image"
    yield Race(title, [*hashers(bytes_), verify], 3, NOTE)


def _large(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size > 2**16)
