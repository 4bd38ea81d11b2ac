"""Images to push: of layers that are as large as a test wants, other for each seed."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import replace

from edgetrain.core.ports import BaseImage, Image
from edgetrain.image.assembly import About, assemble
from edgetrain.image.layer import LayerFile

MB = 10**6


def about(version: int = 1) -> About:
    """What the image tells of itself."""
    return About(title="cxr-triage", version=str(version), revision="5" * 40, created="2026-10-01T12:00:00Z")


def model_image(size: int, seed: int = 1, base: BaseImage | None = None) -> Image:
    """An image with a small scoring layer and a model of `size` random bytes."""
    weights = random.Random(seed).randbytes(size)
    scoring = [LayerFile.of_bytes("app/score.py", b"print(%d)\n" % seed)]
    return assemble(
        about=about(), scoring=scoring, model=[LayerFile.of_bytes("model/model.onnx", weights)], base=base
    )


def spoilt(image: Image, change: Callable[[bytes], bytes]) -> Image:
    """The image with its last layer's bytes changed, but not its digest."""
    last = image.layers[-1]
    with last.open() as stream:
        data = change(stream.read())
    return replace(image, layers=[*image.layers[:-1], replace(last, open=lambda: io.BytesIO(data))])
