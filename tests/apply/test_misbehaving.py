"""Training scripts that misbehave, all in one apply: each has its outcome, a message that says why, and its record.
The well-behaved run beside them, the site and the next apply are not harmed."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.apply.site import EXPERIMENT, TARGET, SmallSite
from tests.contract.misbehaviour import DAEMON
from tests.walk import WALK_ALL

pytestmark = [pytest.mark.needs("bubblewrap"), pytest.mark.xdist_group("misbehaving")]

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
with zipfile.ZipFile(out / "model.json", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
    with archive.open("weights.bin", "w", force_zip64=True) as member:
        for _ in range(MEGABYTES):
            member.write(bytes(2**20))
"""
MEGABYTES = 20_000 if WALK_ALL else 200
# The static guard sees the fork before any run.
WAIVED = """\
  egress:
    waivers:
      - {code: E613, path: train.py, reason: "a test", owner: "@example/ds", expires: "2999-01-01"}
"""
FLOOD = 2**30 if WALK_ALL else 48 * 2**20


@dataclass(frozen=True)
class Misdeed:
    """What a script does after all went well, and what becomes of its run. `limits` replaces the time-out."""

    source: str
    outcome: str
    reason: str
    said: str
    limits: str = "timeout: 2m"


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
        f"for _ in range({FLOOD // 2**16}): print('x' * (2**16 - 1))", "candidate", "GatesPassed", "gates passed"
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
    "hard-link": Misdeed("os.link(out / 'model.json', out / 'again')", "rejected", "OutputsRefused", "hard link"),
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
        "timeout: 1s",
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


def experiment(name: str, misdeed: Misdeed) -> str:
    """The experiment's manifest."""
    text = EXPERIMENT.replace("name: mean", f"name: {name}").replace("timeout: 2m, retries: 1", misdeed.limits)
    plain = text.replace(" --data ${{inputs.table}} --shift ${{inputs.shift}}", "").replace("    shift: 0.5\n", "")
    return plain + "  resources: {tmpSize: 4Mi}\n" + (WAIVED if misdeed.source is DAEMON else "")


@dataclass(frozen=True)
class Seen:
    """What the applies did."""

    site: SmallSite
    records: Mapping[str, dict[str, Any]]
    again: list[str]
    told: str
    marker: Path


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """The site after one apply of them all, and another one."""
    folder = tmp_path_factory.mktemp("misbehaving")
    site = SmallSite(folder).make()
    marker = site.state / "loaded"
    site.write("compute/runner.yaml", TARGET.replace("slots: 2", "slots: 4"))
    for name, misdeed in MISDEEDS.items():
        site.write(f"experiments/{name}/experiment.yaml", experiment(name, misdeed))
        source = GOOD + textwrap.dedent(misdeed.source).replace("PLACE", str(marker))
        site.write(f"experiments/{name}/train.py", source)
    site.push("Misbehave")
    told: list[str] = []
    site.apply(report=lambda event: told.append(f"{event.kind} {event.subject} {event.message}"))
    again = [result.operation for result in site.apply().results]
    runs = {str(r["experiment"]): r for r in site.records().values() if r["kind"] == "RunRecord"}
    return Seen(site, runs, again, "\n".join(told), marker)


@pytest.mark.parametrize("name", MISDEEDS)
def test_a_misdeed_has_its_outcome_and_a_record(seen: Seen, name: str) -> None:
    misdeed, record = MISDEEDS[name], seen.records[name]
    assert (record["outcome"], record["reason"]) == (misdeed.outcome, misdeed.reason), record["message"]
    assert misdeed.said in str(record["message"]), record["message"]
    assert record["message"].isprintable()
    if misdeed.outcome != "candidate":
        assert (record["outputs"], record["metrics"]) == ({}, {})


def test_nothing_else_is_harmed(seen: Seen) -> None:
    assert seen.records["mean"]["outcome"] == "candidate"
    assert seen.again == []
    assert not seen.marker.exists()
    assert "patients" not in str(seen.records) + seen.told
    assert "\x1b" not in seen.told
    log = next((seen.site.state / "logs").glob("log-flood-*")).stat().st_size
    assert 2**23 < log < 2**24 + 2**10
    assert {path.name for path in (seen.site.data / "table").iterdir()} == {"a.txt"}
    for name in ("runs", "scratch"):
        assert not any((seen.site.state / name).rglob("outputs/*"))
