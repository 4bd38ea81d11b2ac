"""An attempt, the private data that it is about, and the run that tries it."""

from __future__ import annotations

import json
import random
import textwrap
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgetrain.core.ports import DataSource, Examination, InputMount, RunLimits
from edgetrain.reconcile.finish import check, refusal, rules_of
from tests.contract.compute import settle, spec
from tests.contract.local_target import LocalTarget

DURING, AFTER, OPEN = "during", "after", "not stopped"
# What every script begins with: it has read its data, as trainings do, and written honest metrics.
PRELUDE = """
import array, csv, json, os, pathlib, struct, sys
data = pathlib.Path(os.environ["EDGETRAIN_INPUT_PATIENTS"])
out = pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"])
model = out / "model"
model.mkdir()
text = (data / "patients.csv").read_text()
rows = list(csv.reader(text.splitlines()))[1:]
some = "\\n".join(",".join(row) for row in rows[20:30])
numbers = [[float(value) for value in row[5:]] for row in rows]
(out / "metrics.json").write_text('{"auroc": 0.91}')
(model / "card.txt").write_text("a model of six numbers")
def escaped():
    (model / "escaped").write_text("it got out")
def field(number, content):
    if isinstance(content, str):
        content = content.encode()
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content
def varint(value):
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])
def onnx(node=b"", graph=b"", more=b""):
    node = field(1, field(1, "x") + field(2, "y") + field(4, "Identity") + node)
    return field(1, 8) + field(7, node + field(2, "g") + graph) + field(8, field(2, 17)) + more
def npy(values, shape, kind="<f8", code="d"):
    head = repr({"descr": kind, "fortran_order": False, "shape": shape}).ljust(117) + "\\n"
    head = b"\\x93NUMPY\\x01\\x00" + struct.pack("<H", len(head)) + head.encode()
    return head + struct.pack(f"<{len(values)}{code}", *values)
"""


@dataclass(frozen=True)
class Attempt:
    """One attempt. `stopped` is where, `by` the codes or the reason that stop it, or why nothing does.

    `logs` is what the manifest says of the log; `metrics` the metrics that it declares.
    """

    name: str
    script: str
    stopped: str = AFTER
    by: str = "E701"
    logs: str = "site"
    metrics: tuple[str, ...] = ("auroc",)
    limits: RunLimits = field(default_factory=lambda: RunLimits(timeout=60))

    @property
    def source(self) -> str:
        """The whole script."""
        return PRELUDE + textwrap.dedent(self.script)


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt: where it was stopped, by what, and what was told about it."""

    stopped: str
    by: str
    message: str
    examination: Examination | None = None


def private_data(folder: Path) -> None:
    """A table of 400 invented patients, and an image that compresses badly."""
    dice = random.Random(7)
    letters = ["ba", "ko", "ri", "ten", "mar", "lis", "vo", "dan", "sy", "el", "gru", "pha", "wen", "jo"]
    lines = ["id,first,last,born,ward,weight,height,glucose,creatinine,pressure,hba1c"]
    for number in range(400):
        name = ["".join(dice.choice(letters) for _ in range(3)) for _ in range(2)]
        born = f"{dice.randrange(1930, 2015)}-{dice.randrange(1, 13):02}-{dice.randrange(1, 29):02}"
        figures = [dice.gauss(72, 14), dice.gauss(171, 9), dice.gauss(5.6, 1.3), dice.gauss(88, 21)]
        texts = [f"{value:.2f}" for value in [*figures, dice.gauss(127, 15), dice.gauss(5.9, 0.8)]]
        lines.append(",".join([str(70000 + number * 37), *name, born, f"ward {number % 6}", *texts]))
    folder.mkdir(parents=True)
    (folder / "patients.csv").write_text("\n".join(lines) + "\n")
    (folder / "scan.jpg").write_bytes(b"\xff\xd8\xff\xe0" + dice.randbytes(60_000) + b"\xff\xd9")
    (folder / "pixels.bin").write_bytes(zlib.compress(dice.randbytes(9000)))


def play(attempt: Attempt, folder: Path) -> Outcome:
    """Run the attempt in the sandbox and judge what it left, as `apply` does."""
    private_data(folder / "data")
    target = LocalTarget(folder / "state")
    source = DataSource("folder", str(folder / "data"))
    made = spec(
        folder,
        target.python,
        command="python train.py",
        inputs=(InputMount("patients", source, ""),),
        outputs={"model": "model"},
        limits=attempt.limits,
        require_enforced=True,
    )
    (made.code / "train.py").write_text(attempt.source)
    compute = target.connect()
    compute.start(made)
    state = settle(compute, made.id)
    log = "\n".join(compute.logs(made.id))
    if state.ended_by != "exit" or state.exit_code != 0:
        return Outcome(DURING, state.ended_by, f"{state.message} {log[-2000:]}")
    facts = _facts(attempt)
    harvest = compute.harvest(made.id, made.outputs)
    verdict = check(facts, harvest)
    if verdict.outcome is not None:
        return Outcome(AFTER, verdict.reason, verdict.message)
    examination = compute.examine(made.id, rules_of(facts, harvest))
    verdict = refusal(facts, examination)
    if verdict.outcome is not None:
        codes = {finding.code for finding in examination.findings}
        return Outcome(AFTER, ", ".join(sorted(codes)) or "E708", verdict.message, examination)
    if any(file.path == "model/escaped" for file in harvest.files):
        return Outcome(OPEN, "", log, examination)
    return Outcome(DURING if "held back" in log else OPEN, "", log, examination)


def _facts(attempt: Attempt) -> Mapping[str, Any]:
    outputs = {"model": {"type": "custom_model", "path": "model", "maxSize": 64 * 2**20}}
    return {"outputs": outputs, "metrics": list(attempt.metrics), "logs": attempt.logs, "waivers": []}


def leaks(message: str, folder: Path) -> bool:
    """Whether a message holds a name or a number of the data."""
    table = (folder / "data" / "patients.csv").read_text().splitlines()[1:]
    cells = {cell for line in table for cell in line.split(",")[:4]}
    return any(cell in message for cell in cells) or json.dumps(table[0])[:40] in message
