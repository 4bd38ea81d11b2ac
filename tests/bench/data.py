"""Digesting data where it lies: many small files and a few large ones, beside others; then a second look."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from edgetrain.providers.folder.datastore import FolderDatastore
from tests.bench.runner import Contestant, Race, call

SIZE, UNIT = 100_000, "small files of 4 KiB; the large files have 100 KB for each, together"
THREADS = min(8, os.cpu_count() or 1)
MINUTE = 60 * 10**9
LARGE = 10


def bench(folder: Path, size: int) -> Iterator[Race]:
    """Two races."""
    source = random.Random(1)
    small, block = folder / "data" / "small", source.randbytes(100_000)
    for number in range(size):
        file = small / f"{number % 100:02}" / f"{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(number.to_bytes(8, "big") + block[:4088])
    note = "The second look asks `stat` and the cache of digests."
    find = ["find", str(small), "-type", "f", "-print0"]
    xargs = ["xargs", "-0", "-P", str(THREADS), "-n", "200", "sha256sum"]
    peer = Contestant(f"`find`, `xargs -P {THREADS} sha256sum`", call(_piped(find, xargs)))
    title, said = f"Digest {size} small files", f"{THREADS} threads each. The files are in the page cache. {note}"
    yield Race(title, [peer, *_ours(folder, "small")], 3, said)
    shutil.rmtree(small)
    files = [folder / "data" / "large" / f"{number}.bin" for number in range(LARGE)]
    files[0].parent.mkdir()
    for file in files:
        with file.open("wb") as stream:
            for number in range(size // LARGE):
                stream.write(number.to_bytes(8, "big") + block[8:])
    contestants = [*hashers(files), *_ours(folder, "large")]
    title = f"Digest {LARGE} files of {size / 10_000:g} GB together"
    said = f"{THREADS} threads each; `openssl` uses what the processor has for SHA-256, as edgetrain does. {note}"
    yield Race(title, contestants, 2, said)


def hashers(files: Sequence[Path]) -> Iterator[Contestant]:
    """Other people's programs that hash these very files on as many threads."""
    each = ["xargs", "-0", "-P", str(THREADS), "-n", "1"]
    names = "\0".join(map(str, files)).encode()
    for program in (["sha256sum"], ["openssl", "dgst", "-sha256"]):
        if shutil.which(program[0]):
            act = partial(subprocess.run, [*each, *program], input=names, stdout=subprocess.DEVNULL, check=True)
            yield Contestant(f"`xargs -P {THREADS} {' '.join(program)}`", call(act))


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
