"""This machine as a host: where runs of Kubernetes targets are carried out, as processes. See docs/emulator.md."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

from azureml_emulator.executor.host import FOLDER, LONG, Facts, Unfit

_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")


class LocalHost:
    """Programs run as the emulator's user, by one interpreter, in folders below `root`."""

    name = "this machine"
    private_home = True

    def __init__(self, root: Path, python: str) -> None:
        self._root, self._python = root, python

    def ask(self, verb: str, *words: str, order: Any = None, send: Path | None = None) -> dict[str, Any]:
        """See Host."""
        with tempfile.TemporaryFile() if send is None else send.open("rb") as stdin:
            if send is None:
                stdin.write(json.dumps(order).encode())
                stdin.seek(0)
            answer: dict[str, Any] = json.loads(self._run(stdin, verb, *words))
            return answer

    def fetch(self, verb: str, *words: str, into: Path) -> None:
        """See Host."""
        with into.open("wb") as out:
            self._run(subprocess.DEVNULL, verb, *words, out=out)

    def facts(self) -> Facts:
        """See Host: the one interpreter is the only one, and there are no containers."""
        found = self.ask("facts")
        own, executable = str(found["own"]), str(found["executable"])
        return Facts(found["root"], own, executable, {own: executable}, found["machine"], found["libc"], "")

    def way_back(self, port: int, wanted: int = 0) -> int:
        """See Host."""
        return wanted or port

    def close(self) -> None:
        """See Host."""

    def _run(self, stdin: IO[bytes] | int, verb: str, *words: str, out: IO[bytes] | int = subprocess.PIPE) -> bytes:
        environ = {name: os.environ[name] for name in _KEPT if name in os.environ}
        command = [self._python, "-I", str(FOLDER / "agent.py"), str(self._root), verb, *words]
        try:
            done = subprocess.run(
                command, stdin=stdin, stdout=out, stderr=subprocess.PIPE, env=environ, timeout=LONG, check=False
            )
        except OSError as error:
            raise Unfit(f"{self._python} can't be run: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise Unfit(f"{verb} did not end") from None
        if done.returncode != 0:
            raise Unfit(f"{verb} failed: {done.stderr[-400:].decode('utf-8', 'replace').strip()}")
        return done.stdout or b""
