"""Assembling an image of a large model into an OCI layout, beside copying the same bytes."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from edgetrain.image.assembly import About, assemble, scoring_files
from edgetrain.image.layer import LayerFile
from edgetrain.providers.oci_layout.provider import OciLayoutRegistry
from tests.bench.runner import Contestant, Race, command

SIZE, UNIT = 200, "MB of model; then one 25 times as large"
LARGE = 25  # times that size, for the memory
ABOUT = About(title="sample", version="1", revision="5" * 40, created="2026-01-01T00:00:00Z")


def release(model: Path, layouts: Path) -> None:
    """What a release does: assemble the image and push it into a layout, with a tag."""
    files = [LayerFile("model/model.bin", model.stat().st_size, lambda: model.open("rb"))]
    image = assemble(about=ABOUT, scoring=scoring_files("sample", 1, {}), model=files)
    registry = OciLayoutRegistry(root=layouts)
    registry.tag("sample", "1", registry.push("sample", image))


def bench(folder: Path, size: int) -> Iterator[Race]:
    """One race."""
    source, model, made = random.Random(1), folder / "model.bin", folder / "made"
    with model.open("wb") as stream:
        for _ in range(size):
            stream.write(source.randbytes(10**6))
    release(model, folder / "ready")

    def fresh() -> None:
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()

    contestants = [
        Contestant("`cp`", command("cp", model, made / "model.bin"), fresh),
        Contestant("`dd bs=1M conv=fsync`: a copy that is on the disk", command(*_dd(model, made)), fresh),
        Contestant(
            "edgetrain: assemble, push, tag",
            command(sys.executable, "-m", "tests.bench.image", model, made),
            fresh,
        ),
    ]
    if shutil.which("skopeo"):
        ready = f"oci:{folder / 'ready' / 'sample'}:1"
        copy = ["skopeo", "--insecure-policy", "copy", "--preserve-digests", ready]
        contestants += [
            Contestant(
                "`skopeo copy` of that image, `oci:` to `dir:`", command(*copy, f"dir:{made / 'copy'}"), fresh
            ),
            Contestant(
                "`skopeo copy` of that image, `oci:` to `oci:`", command(*copy, f"oci:{made / 'copy'}:1"), fresh
            ),
        ]
    note = (
        "Assembling reads the model twice (digest, then bytes), so that nothing is spooled and the digest is known "
        "before a byte is written; what is pushed is synced to the disk. Peak memory is not measured below 9 MiB."
    )
    yield Race(f"Image of a model of {size} MB", contestants, 3, note)
    fresh()
    shutil.rmtree(folder / "ready")
    with model.open("ab") as stream:
        for _ in range(size * (LARGE - 1)):
            stream.write(source.randbytes(10**6))
    note = "The memory counts here: it is that of a small model."
    yield Race(f"Image of a model of {size * LARGE / 1000:g} GB", [contestants[0], contestants[2]], 1, note)


def _dd(model: Path, made: Path) -> list[str]:
    return ["dd", f"if={model}", f"of={made / 'model.bin'}", "bs=1M", "conv=fsync", "status=none"]


if __name__ == "__main__":
    release(Path(sys.argv[1]), Path(sys.argv[2]))
