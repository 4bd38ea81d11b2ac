"""A run that lies prepared on the machine: the verbs of the programs there, asked as over ssh but from beside.

For a machine that was brought the run by the site's runner (see `onsite/vm/main.py`); Azure ML only starts it. The
programs run with the environment that the runner's own session had, and with nothing of Azure ML's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, BinaryIO

from ..vm.fault import Fault
from ..vm.tell import CHUNK, open_output
from .listing import differences, listing

ASK_SECONDS = 120.0


class Prepared:
    """The run of `task` (see the package): `program` is the command that starts the programs, `work` their
    folder."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = task
        self.run = Path(task["work"]) / "runs" / task["id"]

    def prepare(self) -> None:
        """Look whether what the runner brought is what Azure ML was given. Raises Fault."""
        if not (self.run / "session.json").exists() and not (self.run / "ended.json").exists():
            raise Fault(
                "NotFound", "the run was not brought to this machine, or this account may not see it", "NotPrepared"
            )
        if (self.run / "code").is_dir() and differences(self.task["code"], listing(self.run / "code"), modes=True):
            raise Fault("Rejected", "the code on the machine is not the code that was submitted", "CodeDiffers")

    def ask(self, verb: str, within: float | None = ASK_SECONDS, **request: Any) -> Any:
        """The answer of a verb. Raises Fault."""
        return self._answer(json.dumps({"verb": verb, "work": self.task["work"], **request}) + "\n", within)["ok"]

    def copy(self, path: str, into: BinaryIO) -> None:
        """Write an output file's bytes. Raises Fault."""
        with open_output(self.run / "outputs", path) as file:
            shutil.copyfileobj(file, into, CHUNK)

    def _answer(self, line: str, within: float | None) -> Any:
        try:
            environ = json.loads((self.run / "session.json").read_text(encoding="utf-8"))
            done = subprocess.run(
                self.task["program"],
                input=line.encode(),
                capture_output=True,
                env=environ,
                cwd="/",
                timeout=within,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            message = f"the programs of the machine gave no answer ({type(error).__name__})"
            raise Fault("Transient", message, "NoAnswer") from None
        if not done.stdout.startswith((b'{"ok":', b'{"error":')):
            message = f"the programs of the machine gave no answer (exit code {done.returncode})"
            raise Fault("Transient", message, "NoAnswer")
        answer = json.loads(done.stdout)
        if "error" in answer:
            raise Fault(**answer["error"])
        return answer
