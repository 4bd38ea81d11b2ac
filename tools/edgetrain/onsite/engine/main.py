"""One request, one answer, as `vm/main.py` has them: JSON on the first line of stdin, bytes after it where told.

    probe          {engine}                           what the engine is: see `probe.probe`
    attempt        {argv, config}                     what a container is kept from, tried: see `probe.attempt`
    own            {engine}                           the id of a small image of the machine's own Python
    image          {engine, ids}                      the id of these that is here, or ""
    load           {engine, ids, reference} + archive the id
    environment    {id}                               whether it is here and whole
    receive        {id, digest} + archive             null
    environments   {}                                 see `environments.stored`
    drop           {id}                               null

Every request has `verb` and `work` too; environments lie in `<work>/environments/`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ..vm.fault import Fault, of_disk
from . import environments, images, own, probe

MAX_REQUEST = 2**22


class Engine:
    """The verbs. `rest` is what follows the request on stdin."""

    def __init__(self, work: Path, rest: BinaryIO) -> None:
        self.work, self.rest = work, rest
        self.top = work / "environments"

    def probe(self, engine: str) -> dict[str, Any]:
        """What the engine is."""
        return probe.probe(engine, self.work)

    def attempt(self, argv: list[str], config: str) -> dict[str, Any]:
        """What a container is kept from."""
        return probe.attempt(argv, config)

    def own(self, engine: str) -> str:
        """An image to try containers with."""
        return own.own(engine)

    def image(self, engine: str, ids: list[str]) -> str:
        """Which image is here."""
        return images.present(engine, ids)

    def load(self, engine: str, ids: list[str], reference: str) -> str:
        """Take an image in."""
        return images.load(engine, ids, reference, self.rest)

    def environment(self, id: str) -> bool:
        """Whether an environment is here."""
        return environments.has(self.top, id)

    def receive(self, id: str, digest: str, size: int) -> None:
        """Take an environment in."""
        environments.receive(self.top, id, digest, size, self.rest)

    def environments(self) -> list[dict[str, Any]]:
        """What is kept."""
        return environments.stored(self.top)

    def drop(self, id: str) -> None:
        """Remove an environment."""
        environments.drop(self.top, id)


VERBS: dict[str, Callable[..., Any]] = {
    "probe": Engine.probe,
    "attempt": Engine.attempt,
    "own": Engine.own,
    "image": Engine.image,
    "load": Engine.load,
    "environment": Engine.environment,
    "receive": Engine.receive,
    "environments": Engine.environments,
    "drop": Engine.drop,
}


def main() -> None:
    """Answer the one request."""
    os.umask(0o077)
    stdin = sys.stdin.buffer
    request = json.loads(stdin.readline(MAX_REQUEST))
    verb, work = request.pop("verb"), Path(request.pop("work")).expanduser()
    try:
        answer = {"ok": VERBS[verb](Engine(work, stdin), **request)}
    except (Fault, OSError) as error:
        fault = error if isinstance(error, Fault) else of_disk(error)
        answer = {"error": {name: getattr(fault, name) for name in ("kind", "message", "reason", "fix")}}
    sys.stdout.write(json.dumps(answer) + "\n")
