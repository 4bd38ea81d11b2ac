"""What a run costs over the bare script: a detached, sandboxed run on the local target, from start to clean-up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from edgetrain.core.ports import RunLimits, RunPhase, RunSpec
from edgetrain.providers.local.prepare import this_python
from edgetrain.providers.local.provider import LocalCompute
from tests.apply.site import SmallSite
from tests.bench.runner import EDGETRAIN, Contestant, Race, call, command

SIZE, UNIT = 5, "turns"
POLL, PATIENCE = 0.005, 120.0
# Work that takes as long wherever it runs: no input, one core.
SCRIPT = """\
import hashlib, json, os, pathlib, sys
digest = b""
for _ in range(int(sys.argv[1])):
    digest = hashlib.sha256(digest + bytes(4096)).digest()
out = pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"])
(out / "model.json").write_text(json.dumps(digest.hex()))
(out / "metrics.json").write_text(json.dumps({"score": 1.0}))
"""
HASHES_A_SECOND_OR_SO = 250_000


def bench(folder: Path, size: int) -> Iterator[Race]:
    """Three races: a script that does nothing, one that works for about a second, and the whole command."""
    code, state = folder / "code", folder / "state"
    code.mkdir()
    state.mkdir()
    (code / "train.py").write_text(SCRIPT)
    compute = LocalCompute(name="here", state=state, allow_unsandboxed=True, capacity={})
    status = compute.observe()
    note = (
        f"The environment is cached. Egress level here: {status.egress.value}. Start, wait, read outputs "
        "and metrics in a limited process, remove the run; nothing of git."
    )
    number = count()
    for title, rounds in (("that does nothing", 0), ("of about a second", HASHES_A_SECOND_OR_SO)):

        def ours(rounds: int = rounds) -> None:
            _run(compute, code, f"bench-{os.getpid()}-{next(number)}", rounds)

        contestants = [
            Contestant("`python train.py`", call(_bare(folder, code, rounds))),
            Contestant("a run on the local target", call(ours)),
        ]
        if program := shutil.which("bwrap"):
            sandbox = [program, "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all"]
            sandbox += ["--bind", str(folder), str(folder)]
            if status.egress.value == "enforced":
                sandboxed = call(_bare(folder, code, rounds, sandbox))
                contestants.insert(1, Contestant("`bwrap … python train.py`", sandboxed))
        yield Race(f"Train with a script {title}", contestants, size, note)
    yield _as_a_user(folder / "site", size)


def _as_a_user(folder: Path, size: int) -> Race:
    """The whole command, beside the script as its author would start it."""
    folder.mkdir()
    site, outputs = SmallSite(folder).make(), folder / "outputs"
    outputs.mkdir()
    script = site.clone / "experiments" / "mean" / "train.py"
    bare = ["env", f"EDGETRAIN_OUTPUTS={outputs}", sys.executable, script]
    contestants = [
        Contestant("`python train.py`", command(*bare, "--data", site.data / "table", "--shift", "0.5")),
        Contestant("`edgetrain run`", command(EDGETRAIN, "run", "mean", cwd=site.clone)),
    ]
    note = (
        "Python's start, the checks of manifests and code, the digest of the data, the run in "
        "its sandbox, the content check of what it left, and what the gates would say."
    )
    return Race("Try an experiment", contestants, size, note)


def _bare(folder: Path, code: Path, rounds: int, before: list[str] | None = None) -> Callable[[], None]:
    outputs = folder / "outputs"
    outputs.mkdir(exist_ok=True)
    line = [*(before or []), sys.executable, str(code / "train.py"), str(rounds)]
    environment = {**os.environ, "EDGETRAIN_OUTPUTS": str(outputs)}

    def turn() -> None:
        subprocess.run(line, env=environment, check=True)
        json.loads((outputs / "metrics.json").read_text())

    return turn


def _run(compute: LocalCompute, code: Path, run: str, rounds: int) -> None:
    outputs = {"model": "model.json"}
    compute.start(
        RunSpec(
            id=run,
            command=f"python train.py {rounds}",
            parameters={},
            seed=1,
            code=code,
            requirements=b"",
            image=None,
            python=this_python(),
            inputs=[],
            outputs=outputs,
            limits=RunLimits(timeout=60),
            require_enforced=False,
        )
    )
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while (state := compute.inspect(run)).phase not in (RunPhase.ENDED, RunPhase.LOST):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{run} is {state.phase}")
        pause.wait(POLL)
    harvest = compute.harvest(run, outputs)
    if state.exit_code != 0 or dict(harvest.metrics) != {"score": 1.0}:
        raise RuntimeError(f"{run} ended by {state.ended_by}: {state.message} {harvest.faults}")
    compute.forget(run)
