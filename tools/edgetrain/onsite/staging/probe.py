"""Looks whether this host can read the blob store: for `edgetrain doctor`."""

from __future__ import annotations

import time
from typing import Any

from .blobs import Blobs
from .errors import Passing
from .store import server_time, wait


def probe(blobs: Blobs) -> dict[str, Any]:
    """One page with one name: `version` that the store answers, `skew` seconds by which its clock is ahead of
    this one's, `seconds` it took, `found` whether something is at the path. Raises Failure, with few tries."""
    session, began, failed = blobs.container.session(), time.monotonic(), 0
    while True:
        try:
            answer = session.page(blobs.path if blobs.single else blobs.prefix, "", 1)
            break
        except Passing as error:
            failed += 4
            wait(failed, error, blobs.container.stop)
    found = b"<Blob>" in answer.read(2**16)
    seconds = time.monotonic() - began
    session.close()
    skew = server_time(answer.headers.get("date", "")) - time.time()
    version = answer.headers.get("x-ms-version", "")[:20]
    return {"probe": {"version": version, "skew": round(skew), "seconds": round(seconds, 3), "found": found}}
