"""Runs of Python sources on an ssh target."""

from __future__ import annotations

import textwrap
from itertools import count
from pathlib import Path
from typing import Any

from edgetrain.core.ports import RunSpec
from tests.contract.compute import spec
from tests.contract.ssh_target import SshTarget

_NUMBERS = count()


def script(target: SshTarget, folder: Path, source: str, **changes: Any) -> RunSpec:
    """A run of this Python source, with an id of its own; `model.txt` is its output."""
    number = next(_NUMBERS)
    given = {"command": "python train.py", "image": target.image, "id": f"wear-0123456789ab-{number}", **changes}
    made = spec(folder / f"run-{number}", target.python, **given)
    (made.code / "train.py").write_text(textwrap.dedent(source))
    return made


WAIT_FOR_WORD = """
import os, pathlib, time
print("begun", flush=True)
outputs = pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"])
while not (outputs / "go").exists():
    time.sleep(0.05)
(outputs / "go").unlink()
(outputs / "model.txt").write_text("weights")
print("done")
"""


def let_go(target: SshTarget, run_id: str) -> None:
    """Let a run of `WAIT_FOR_WORD` come to its end, as seen from the VM's console: no link is needed."""
    (target.folder(run_id) / "outputs" / "go").touch()
