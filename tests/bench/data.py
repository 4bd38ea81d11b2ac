"""Digesting data where it lies: many small files and one large one, beside sha256sum; then a second look."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edgetrain.providers.folder.datastore import FolderDatastore
from tests.bench.runner import Contestant, Race, call, command

SIZE, UNIT = 100_000, "small files of 4 KiB; the large file has 20 KB for each"
THREADS = min(8, os.cpu_count() or 1)
MINUTE = 60 * 10**9


def bench(folder: Path, size: int) -> Iterator[Race]:
    """Two races."""
    source = random.Random(1)
    small, block = folder / "data" / "small", source.randbytes(20_000)
    for number in range(size):
        file = small / f"{number % 100:02}" / f"{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(number.to_bytes(8, "big") + block[:4088])
    large = folder / "data" / "large.bin"
    with large.open("wb") as stream:
        for _ in range(size):
            stream.write(block)
    note = "The files are in the page cache. The second look asks `stat` and the cache of digests."
    find = ["find", str(small), "-type", "f", "-print0"]
    xargs = ["xargs", "-0", "-P", str(THREADS), "-n", "200", "sha256sum"]
    peer = Contestant(f"`find`, `xargs -P {THREADS} sha256sum`", call(_piped(find, xargs)))
    yield Race(f"Digest {size} small files", [peer, *_ours(folder, "small")], 3, f"{THREADS} threads each. {note}")
    peer = Contestant("`sha256sum`", command("sha256sum", large))
    title = f"Digest one file of {size / 50:g} MB"
    yield Race(title, [peer, *_ours(folder, "large.bin")], 3, note)


def _ours(folder: Path, path: str) -> list[Contestant]:
    cold, warm = folder / "cache-cold", folder / "cache-warm"

    def look(cache: Path) -> Callable[[], object]:
        # As if the files were a minute old: what was just written is never taken from the cache.
        store = FolderDatastore(root=folder / "data", cache=cache, clock=lambda: time.time_ns() + MINUTE)
        return lambda: store.digest(path)

    return [
        Contestant("edgetrain, first look", call(look(cold)), lambda: shutil.rmtree(cold, ignore_errors=True)),
        Contestant("edgetrain, second look", call(look(warm))),
    ]


def _piped(first: list[str], second: list[str]) -> Callable[[], None]:
    def act() -> None:
        with subprocess.Popen(first, stdout=subprocess.PIPE) as source:
            subprocess.run(second, stdin=source.stdout, stdout=subprocess.DEVNULL, check=True)

    return act
