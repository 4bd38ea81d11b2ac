"""The digest of an input: edgetrain's tree digest, version 1."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

HEADER = b"edgetrain tree v1\n"


def tree_digest(contents: Iterable[tuple[bytes, str]]) -> str:
    """Hex of sha256 over a header and, for names in the order of their bytes, `name NUL content-hash(32 bytes)`."""
    hasher = hashlib.sha256(HEADER)
    for name, digest in contents:
        hasher.update(name + b"\0" + bytes.fromhex(digest))
    return hasher.hexdigest()
