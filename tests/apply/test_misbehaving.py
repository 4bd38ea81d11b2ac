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
from tests.contract.misbehaviour import DAEMON, GOOD, MISDEEDS, Misdeed

pytestmark = [pytest.mark.needs("bubblewrap"), pytest.mark.xdist_group("misbehaving")]

# The static guard sees the fork before any run.
WAIVED = """\
  egress:
    waivers:
      - {code: E613, path: train.py, reason: "a test", owner: "@example/ds", expires: "2999-01-01"}
"""


def experiment(name: str, misdeed: Misdeed) -> str:
    """The experiment's manifest."""
    text = EXPERIMENT.replace("name: mean", f"name: {name}").replace("timeout: 2m", f"timeout: {misdeed.timeout}s")
    plain = text.replace(" --data ${{inputs.table}} --shift ${{inputs.shift}}", "").replace("    shift: 0.5\n", "")
    plain = plain.replace("maxSize: 1Mi", "maxSize: 32Mi")  # the bomb is that large
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
