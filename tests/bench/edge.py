"""What a run on an ssh target costs over the same container started by hand on the machine."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from edgetrain.core.ports import RunLimits, RunPhase, RunSpec
from edgetrain.providers.ssh.provider import SshCompute
from testbed.base_image import base
from testbed.vm import Vm
from tests.bench.runner import Contestant, Race, call
from tests.contract.ssh_target import SshTarget

SIZE, UNIT = 5, "turns"
POLL, PATIENCE = 0.02, 300.0
MANY, AT_ONCE = 20, 2
SCRIPT = """\
import json, os, pathlib
out = pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"])
(out / "model.json").write_text("1")
(out / "metrics.json").write_text(json.dumps({"score": 1.0}))
"""
OUTPUTS = {"model": "model.json"}


def bench(folder: Path, size: int) -> Iterator[Race]:
    """One run after another, and 20 on one target, two at once. Needs root, as the testbed does."""
    code = folder / "code"
    code.mkdir()
    (code / "train.py").write_text(SCRIPT)
    with Vm() as vm:
        target = SshTarget(vm, base("train"), folder / "state", "/srv/bench")
        compute, number = target.connect(), count()
        hand = by_hand(target, compute, code)

        def ours() -> None:
            whole(compute, target, code, f"bench-{os.getpid()}-{next(number)}")

        def first() -> None:
            whole(target.connect(), target, code, f"bench-{os.getpid()}-{next(number)}")

        def many() -> None:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for done in [pool.submit(ours) for _ in range(MANY)]:
                    done.result()

        def many_by_hand() -> None:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for done in [pool.submit(vm.run, hand) for _ in range(MANY)]:
                    done.result()

        note = (
            "The script does nothing. By hand: `podman run` with the same restrictions on the machine. Ours: "
            "start detached, wait, read outputs in a second container, fetch the model, clear away. "
            "The first of a process also signs in, looks at the machine and tries a container."
        )
        contestants = [
            Contestant("`podman run …` by hand", call(lambda: vm.run(hand))),
            Contestant("a run on the ssh target", call(ours)),
            Contestant("the first run of a process", call(first)),
        ]
        yield Race("A run on an ssh target", contestants, size, note)
        contestants = [
            Contestant(f"{MANY} by hand", call(many_by_hand)),
            Contestant(f"{MANY} runs", call(many)),
        ]
        yield Race(f"{MANY} runs on one ssh target, {AT_ONCE} at once", contestants, max(1, size // 3))


def by_hand(target: SshTarget, compute: SshCompute, code: Path) -> list[str]:
    """The container of a run as a command line of its own; its script gets a folder that stays."""
    begin(compute, target, code, "by-hand")
    waited(compute, "by-hand")
    spec = json.loads((target.folder("by-hand") / "spec.json").read_text())
    argv = [word for word in spec["argv"] if word != "-i"]
    at = argv.index("--name")
    argv[at : at + 2] = ["--rm"]
    at = argv.index("--entrypoint")
    image = next(word for word in argv if word.startswith("sha256:"))
    return [*argv[:at], "--env", "EDGETRAIN_OUTPUTS=/edgetrain/outputs", image, "python3", "train.py"]


def begin(compute: SshCompute, target: SshTarget, code: Path, run: str) -> None:
    """Start the script."""
    compute.start(
        RunSpec(
            id=run,
            command="python train.py",
            parameters={},
            seed=1,
            code=code,
            requirements=b"",
            image=target.image,
            python=target.python,
            inputs=[],
            outputs=OUTPUTS,
            limits=RunLimits(timeout=60),
        )
    )


def waited(compute: SshCompute, run: str) -> None:
    """Until it has ended, and well."""
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while (state := compute.inspect(run)).phase not in (RunPhase.ENDED, RunPhase.LOST):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{run} is {state.phase}")
        pause.wait(POLL)
    if state.exit_code != 0:
        raise RuntimeError(f"{run} ended by {state.ended_by}: {state.message}")


def whole(compute: SshCompute, target: SshTarget, code: Path, run: str) -> None:
    """One run from its start to its clean-up."""
    begin(compute, target, code, run)
    waited(compute, run)
    harvest = compute.harvest(run, OUTPUTS)
    if dict(harvest.metrics) != {"score": 1.0}:
        raise RuntimeError(f"{run}: {harvest.faults}")
    compute.fetch(run, "model.json", target.state / f"{run}.json")
    compute.forget(run)
