"""A million names from a synthetic listing: the staging's memory stays bounded."""

from __future__ import annotations

import json
import os

from edgetrain.core.digest import digest_bytes, ordered_tree_digest
from tests.onsite.blob_server import BlobServer
from tests.onsite.program import Program
from tests.walk import WALK_ALL

COUNT = 1_000_000 if WALK_ALL else 60_000
FEW = 200
MORE_MEMORY = 64 * 2**20
EMPTY = digest_bytes(b"")


def peak(program: Program, store: BlobServer, path: str) -> tuple[dict[str, object], int]:
    """The answer, and the peak memory of the process in bytes."""
    process = program.start("stage", store.source(path), view=False)
    assert process.stdin and process.stdout
    process.stdin.close()
    lines = process.stdout.read().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    answer: dict[str, object] = json.loads(lines[-1])
    assert process.returncode == 0, answer
    return answer, usage.ru_maxrss * 1024


def name(number: int) -> str:
    return f"deep/er/{number // 1000:05}/a long enough name of a picture {number:07}.dcm"


def test_a_million_names_take_bounded_memory(program: Program, store: BlobServer) -> None:
    filled = {name(number): b"%d" % number for number in range(0, COUNT, COUNT // FEW)}
    store.blobs = {f"m/{one}": content for one, content in filled.items()}

    def page(prefix: str, first: int, count: int) -> tuple[list[tuple[str, int, str]], bool]:
        most = FEW if prefix == "few/" else COUNT
        part = range(first, min(first + count, most))
        if prefix == "few/":
            return [(f"few/{name(number)}", 0, "0xA") for number in part], part.stop < most
        names = [name(number) for number in part]
        found = [(f"m/{one}", len(filled.get(one, b"")), "0xA") for one in names]
        return found, part.stop < most

    store.names = page
    store.tag = lambda name: "0xA"  # type: ignore[method-assign]
    _, small = peak(program, store, "few")
    answer, large = peak(program, store, "m")
    expected = ordered_tree_digest(
        (name(number).encode(), digest_bytes(filled[name(number)]) if name(number) in filled else EMPTY)
        for number in range(COUNT)
    )
    assert answer["digest"] == expected
    assert answer["files"] == COUNT
    assert large - small < MORE_MEMORY
    again, large = peak(program, store, "m")
    assert (again["digest"], again["moved"]) == (expected, 0)
    assert large - small < MORE_MEMORY
