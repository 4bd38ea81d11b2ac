"""What training scripts do wrong, and what becomes of each on every target: the outcome, and what is said of it.

A provider's test class inherits the contract and gives the fixture `target`, as for `compute`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from edgetrain.core.ports import Compute, RunLimits
from edgetrain.reconcile.finish import Verdict, check, refusal, rules_of, verdict_of
from tests.contract.compute import Target, leaving, settle, spec, until
from tests.walk import WALK_ALL

TIMEOUT = 600 if WALK_ALL else 120
# Forks away from its parent, session and group, and ignores every polite signal.
DAEMON = """
import os, signal, sys, time
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            os.write(1, b"daemon\\n")
            while True:
                time.sleep(1000)
        os._exit(0)
    os.wait()
daemon()
"""

GOOD = """\
import json, os, pathlib
out = pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"])
(out / "model.json").write_text('{"mean": 2.0}')
(out / "metrics.json").write_text('{"score": 0.5}')
"""
# Pickles that run a command, and that double in each of a hundred levels, where somebody loads them.
PICKLED_COMMAND = r"""
(out / "model.json").write_bytes(b"cposix\nsystem\n(S'touch PLACE'\ntR.")
"""
PICKLED_DOUBLING = r"""
levels = "".join(f"(g{n}\ng{n}\nlp{n + 1}\n" for n in range(100))
(out / "model.json").write_text("(lp0\n" + levels + ".")
"""
ZIP = """
import zipfile
with zipfile.ZipFile(out / "model.json", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
    with archive.open("weights.bin", "w", force_zip64=True) as member:
        for _ in range(MEGABYTES):
            member.write(bytes(2**20))
"""
# A bomb of so many megabytes, and a log of so many lines of 64 KiB.
MEGABYTES, LINES = (20_000, 2**14) if WALK_ALL else (200, 768)


@dataclass(frozen=True)
class Misdeed:
    """What a script does after all went well, and what becomes of its run; `timeout` in seconds."""

    source: str
    outcome: str
    reason: str
    said: str
    timeout: int = TIMEOUT


MISDEEDS: Mapping[str, Misdeed] = {
    "exit-code": Misdeed("raise SystemExit(3)", "failed", "ExitCode", "exit code 3"),
    "traceback": Misdeed("raise ValueError(open(__file__).read())", "failed", "ExitCode", "exit code 1"),
    "nan": Misdeed(
        "(out / 'metrics.json').write_text('{\"score\": NaN}')", "rejected", "OutputsRefused", "score is not"
    ),
    "no-metrics": Misdeed("(out / 'metrics.json').unlink()", "failed", "MetricMissing", "not reported: score"),
    "no-output": Misdeed("(out / 'model.json').unlink()", "failed", "OutputMissing", "model was not written"),
    "metric-names": Misdeed(
        "(out / 'metrics.json').write_text(json.dumps({'score': 0.5, 'a\\n::error::\\x1b[31m': 1}))",
        "rejected",
        "OutputsRefused",
        "metrics.json",
    ),
    "log-flood": Misdeed(
        f"for _ in range({LINES}): print('x' * (2**16 - 1))", "candidate", "GatesPassed", "gates passed"
    ),
    "many-files": Misdeed(
        "(out / 'many').mkdir()\nfor number in range(10_000_000): (out / 'many' / str(number)).touch()",
        "rejected",
        "OutputsTooLarge",
        "files",
    ),
    "sparse-huge": Misdeed("open(out / 'model.json', 'r+b').truncate(2**40)", "failed", "ExitCode", "exit code 1"),
    "sparse": Misdeed("open(out / 'model.json', 'r+b').truncate(2**25)", "rejected", "OutputsRefused", "holes"),
    "symlink": Misdeed(
        "(out / 'model.json').unlink()\n(out / 'model.json').symlink_to('/etc/hostname')",
        "rejected",
        "OutputsRefused",
        "symbolic link",
    ),
    "hard-link": Misdeed(
        """
        (out / 'model.json').unlink()
        try:
            os.link(__file__, out / 'model.json')
        except OSError:  # it lies in another file system
            os.link(out / 'metrics.json', out / 'model.json')
        """,
        "rejected",
        "OutputsRefused",
        "hard link",
    ),
    "device": Misdeed(
        """
        import stat
        (out / 'model.json').unlink()
        try:
            os.mknod(out / 'model.json', stat.S_IFBLK | 0o600, os.makedev(8, 0))
        except PermissionError:
            os.mkfifo(out / 'model.json')
        """,
        "rejected",
        "OutputsRefused",
        "pipe",
    ),
    "undeclared": Misdeed("(out / 'patients.csv').write_text('doe')", "rejected", "OutputsRefused", "not declared"),
    "stubborn": Misdeed(
        "import signal\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: signal.pause()",
        "failed",
        "TimedOut",
        "",
        1,
    ),
    "daemon": Misdeed(DAEMON, "candidate", "GatesPassed", "gates passed"),
    "scratch": Misdeed(
        "with open('/tmp/full', 'wb') as file:\n    while True: file.write(bytes(2**20))",
        "failed",
        "ExitCode",
        "exit code 1",
    ),
    "pickled-command": Misdeed(PICKLED_COMMAND, "candidate", "GatesPassed", "gates passed"),
    "pickled-doubling": Misdeed(PICKLED_DOUBLING, "candidate", "GatesPassed", "gates passed"),
    "zip-bomb": Misdeed(ZIP.replace("MEGABYTES", str(MEGABYTES)), "rejected", "EgressRefused", "E708"),
}

SCRATCH, LOG = 4 * 2**20, 16 * 2**20
FACTS: Mapping[str, Any] = {
    "metrics": ["score"],
    "outputs": {"model": {"type": "custom_model", "path": "model.json", "maxSize": 2**25}},
    "logs": "site",
}


def verdict(compute: Compute, run_id: str, patience: float) -> Verdict:
    """What becomes of the run before any gate is asked, as apply finds it."""
    found = verdict_of(settle(compute, run_id, patience=patience))
    if found.outcome is not None:
        return found
    harvest = compute.harvest(run_id, {"model": "model.json"})
    found = check(FACTS, harvest)
    return found if found.outcome else refusal(FACTS, compute.examine(run_id, rules_of(FACTS, harvest)))


class RealTarget(Target, Protocol):
    """A target whose runs are processes, in folders that this machine reaches."""

    grace: float  # seconds between the polite end of a run and the other one, for who connects from now on

    def folder(self, run_id: str) -> Path:
        """Where the run lies."""


class MisbehaviourContract:
    """Every misdeed ends as it must, and nothing of it is left."""

    # Whether the outputs go with the run; where the runner reaches no disk they stay at the site.
    clears = True

    @pytest.mark.parametrize("name", MISDEEDS)
    def test_a_misdeed_ends_as_it_must(self, target: RealTarget, tmp_path: Path, name: str) -> None:
        misdeed = MISDEEDS[name]
        target.grace = 1.0
        compute = target.connect()
        made = spec(
            tmp_path,
            target.python,
            image=target.image,
            command="python train.py",
            outputs={"model": "model.json"},
            leaving=leaving({"model": "model.json"}, "score"),
            limits=RunLimits(timeout=misdeed.timeout, tmp=SCRATCH, log=LOG),
        )
        source = GOOD + textwrap.dedent(misdeed.source).replace("PLACE", "/tmp/loaded")
        (made.code / "train.py").write_text(source)
        compute.start(made)
        found = verdict(compute, made.id, TIMEOUT)
        reason = "" if misdeed.outcome == "candidate" else misdeed.reason
        assert (found.outcome or "candidate", found.reason) == (misdeed.outcome, reason), found
        assert misdeed.outcome == "candidate" or misdeed.said in found.message, found
        assert found.message.isprintable()
        assert (target.folder(made.id) / "log").stat().st_size < LOG + 2**10
        until(lambda: not target.alive(made.id), "the script and all that it began to be dead")
        compute.forget(made.id)
        assert compute.runs() == []
        assert not self.clears or not any(target.folder(made.id).rglob("outputs/*"))
        assert target.connect().observe().ready
