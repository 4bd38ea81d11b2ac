"""The verbs of the staging program: one request on the first line of stdin, answers as JSON lines on stdout.

    stage     cache, limit, source, single, expected, view, pinned, parallel
    receive   the same; the files follow on stdin (see `receive.py`)
    probe     source, single: can the blob store be read from here
    clean     cache, limit, pinned, grace: keep the cache under its limit
    usage     cache: what it holds

`limit` is in bytes, or null for none; `pinned` are digests of inputs whose views stay; `grace` is in seconds.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

from .blobs import Blobs
from .cache import Cache
from .clean import clean, usage
from .errors import Failure, bad_request, fault
from .probe import probe
from .receive import Stream
from .stage import grace_of, limit_of, pinned_of, stage

REQUEST = 2**24


def say(message: object) -> None:
    """One line of the answer."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def answer(request: Mapping[str, Any], stdin: BinaryIO) -> dict[str, Any]:
    """Do what is asked. Raises Failure, OSError, sqlite3.Error."""
    verb, single = request.get("verb"), bool(request.get("single"))
    if verb in ("stage", "probe"):
        if request["source"].get("kind") != "azure-blob":
            raise bad_request("this kind of data can't be pulled")
        blobs = Blobs(request["source"], single)
        return probe(blobs) if verb == "probe" else stage(request, blobs, say)
    if verb == "receive":
        return stage(request, Stream(request["source"], single, stdin, say), lambda _: None)
    cache = Cache(str(request["cache"]))
    if verb == "usage":
        return {"usage": usage(cache)}
    if verb == "clean":
        done = clean(cache, limit_of(request) or 0, pinned_of(request), grace_of(request))
        return {"cleaned": {"bytes": done.freed, "left": done.left}}
    raise bad_request("no such verb")


def main() -> None:
    """Answer the request on stdin; exit with 1 if that fails."""
    os.umask(0o022)
    stdin = sys.stdin.buffer
    try:
        request = json.loads(stdin.readline(REQUEST))
        if not isinstance(request, dict):
            raise bad_request("the request is no JSON object")
        last = answer(request, stdin)
    except BrokenPipeError:
        # Nobody listens any more: the interpreter must not complain about it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except Failure as error:
        last = error.answer()
    except Exception as error:
        last = fault(error).answer()
    say(last)
    sys.exit(1 if "error" in last else 0)
