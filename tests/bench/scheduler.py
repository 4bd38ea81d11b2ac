"""How full targets are kept: experiments that only sleep, over eight targets, against the ideal schedule."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.apply.site import EXPERIMENT, MODEL, TARGET, SmallSite
from tests.bench.runner import EDGETRAIN, Contestant, Race, call, command

SIZE, UNIT = 40, "experiments"
TARGETS = 8
SECONDS = 10
SCRIPT = f"""\
import json, os, pathlib, time
time.sleep({SECONDS})
out = pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"])
(out / "model.json").write_text("{{}}")
(out / "metrics.json").write_text(json.dumps({{"score": 0.0}}))
"""


def bench(folder: Path, size: int) -> Iterator[Race]:
    """One race. None of the runs becomes a candidate: it is the schedule and the records that count."""
    folder.mkdir(parents=True, exist_ok=True)

    def prepare() -> None:
        shutil.rmtree(folder / "site", ignore_errors=True)
        made = SmallSite(folder / "site").make()
        for number in range(TARGETS):
            text = TARGET.replace("name: runner", f"name: runner-{number}, labels: {{pool: sleepers}}")
            made.write(f"compute/runner-{number}.yaml", text.replace("slots: 2", "slots: 1"))
        shutil.rmtree(made.clone / "experiments")
        made.write("models/mean/model.yaml", MODEL.replace("min: 0.1, notWorseThan: production", "min: 0.5"))
        for number in range(size):
            text = EXPERIMENT.replace("name: mean", f"name: sleep-{number}").replace(
                "shift: 0.5", f"shift: {number}.5"
            )
            text = text.replace("compute: runner", "compute: {selector: {pool: sleepers}}")
            made.write(f"experiments/sleep-{number}/experiment.yaml", text)
            made.write(f"experiments/sleep-{number}/train.py", SCRIPT)
        made.push("Sleep")

    def bare() -> None:
        with ThreadPoolExecutor(TARGETS) as pool:
            list(pool.map(lambda _: subprocess.run(["sleep", str(SECONDS)], check=True), range(size)))

    note = (
        f"{size} experiments of {SECONDS} s each on {TARGETS} local targets with one slot; ideal is "
        f"{-(-size // TARGETS) * SECONDS} s. Ours includes reading main, tickets, sandboxes, checks, "
        "and a commit and push of every record."
    )
    ours = Contestant("`edgetrain apply`", command(EDGETRAIN, "apply", cwd=folder / "site" / "clone"), prepare)
    yield Race("Keep eight targets busy", [Contestant("`sleep`, eight at a time", call(bare)), ours], 1, note)
