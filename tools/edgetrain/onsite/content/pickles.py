"""What is in a pickle, by its opcodes; nothing is loaded, built or called."""

from __future__ import annotations

import io
import pickletools
import re
from typing import Any

from .budget import Cut

# Models that keep the rows which they were trained on.
KEEPERS = re.compile(
    rb"\b(KNeighbors(Classifier|Regressor|Transformer)|RadiusNeighbors(Classifier|Regressor|Transformer)"
    rb"|NearestNeighbors|KNNImputer|LocalOutlierFactor|KernelDensity|KDTree(32|64)?|BallTree(32|64)?|c?KDTree"
    rb"|NuSV[CR]|SV[CR]|OneClassSVM|GaussianProcess(Classifier|Regressor)|KernelRidge|LabelPropagation"
    rb"|LabelSpreading|KernelPCA|TSNE|MDS|Isomap|LocallyLinearEmbedding)\b"
)
# Strings that stand there once and are meant again and again: how long each, and all of them together.
MAX_AGAIN, MAX_AGAIN_ALL = 256, 64 * 2**20
BOOKKEEPING = ("GET", "PUT", "PROTO", "FRAME")
MAX_OPCODES = 20_000_000


class Content:
    """The strings, byte strings and numbers of a pickle, in order; `end` is where its opcodes end."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.blobs: list[bytes] = []
        self.floats: list[float] = []
        self.end = 0
        self.whole = False


def is_pickle(data: Any) -> bool:
    """Whether it begins as one."""
    head = bytes(data[:256])
    if bytes(data[-1:]) == b"." and head[:1] in (b"(", b"c") and b"\np" in head:
        return True  # of the oldest kind, which is text
    return len(data) > 3 and head[:1] == b"\x80" and 2 <= head[1] <= 5 and bytes(data[-1:]) in (b".", b"\n", b"\0")


def read(data: Any, check: Any) -> Content:
    """Walk the opcodes as far as they are sound. `check` is called now and then, to keep time."""
    found = Content()
    memo: dict[int, str] = {}
    last, memos, again = "", 0, 0
    stream = io.BytesIO(data)
    try:
        for count, (opcode, value, at) in enumerate(pickletools.genops(stream)):
            if count % 10_000 == 0:
                check()
            if count > MAX_OPCODES:
                break
            found.end = at or 0
            name = opcode.name
            if name == "MEMOIZE" or name.endswith("PUT"):
                place = memos if name == "MEMOIZE" else int(value or 0)
                memos += 1
                if last:
                    memo[place] = last
            elif name.endswith("GET") and int(value or 0) in memo:
                found.texts.append(memo[int(value or 0)])
                again += len(found.texts[-1])
                if again > MAX_AGAIN_ALL:
                    raise Cut("a pickle means the same strings too often")
            last = (
                value
                if isinstance(value, str) and not name.endswith(BOOKKEEPING) and len(value) < MAX_AGAIN
                else ""
            )
            if isinstance(value, str) and not name.endswith(BOOKKEEPING):
                found.texts.append(value)
            elif isinstance(value, (bytes, bytearray)):
                found.blobs.append(bytes(value))
            elif isinstance(value, bool) or value is None:
                continue
            elif isinstance(value, (int, float)) and not name.endswith(BOOKKEEPING):
                found.floats.append(value if isinstance(value, float) or abs(value) < 2**63 else 0.0)
            found.whole = name == "STOP"
    except (ValueError, IndexError, EOFError, UnicodeDecodeError, OverflowError, AttributeError, TypeError):
        found.whole = False
    return found
