"""A run that copies its data is rejected by `apply`: nothing is stored, and the record says why, not what."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from edgetrain.core.record import Outcome
from tests.apply.site import SCRIPT, SmallSite

LEAK = SCRIPT.replace('"shift": options.shift}', '"shift": options.shift, "numbers": numbers[20:40]}')
WAIVER = """\
  seed: 1
  egress:
    waivers:
      - {code: E701, path: model.json, reason: "they are public", owner: "@example/ds", expires: "2999-01-01"}
"""


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    made = SmallSite(tmp_path / "a site").make()
    dice = random.Random(3)
    (made.data / "table" / "a.txt").write_text("\n".join(f"{dice.gauss(70, 9):.4f}" for _ in range(300)))
    made.write("experiments/mean/train.py", LEAK)
    made.push("Keep some numbers in the model")
    return made


def test_rows_in_the_model_are_rejected(site: SmallSite) -> None:
    result = site.apply()
    (run,) = [one for one in result.results if one.operation == "train"]
    assert (run.outcome, run.reason) == (Outcome.REJECTED, "EgressRefused")
    assert "E701 in output model: holds rows of the training data" in run.message
    (record,) = site.records().values()
    assert (record["outcome"], record["outputs"], record["metrics"]) == ("rejected", {}, {})
    egress = record["egress"]
    assert isinstance(egress, dict)
    assert egress["check"]["complete"] is True
    assert egress["check"]["fingerprints"] > 100
    assert [one["code"] for one in egress["check"]["findings"]] == ["E701"]
    value = (site.data / "table" / "a.txt").read_text().split()[25]
    assert value not in json.dumps(record)
    assert not [path for path in site.state.rglob("*") if value.encode() in _content(path)]
    assert [one.operation for one in site.apply().results if one.operation == "train"] == []


def test_a_waiver_lets_them_go_and_is_recorded(site: SmallSite) -> None:
    site.edit("experiments/mean/experiment.yaml", "  seed: 1\n", WAIVER)
    site.push("Waive it")
    (run,) = [one for one in site.apply().results if one.operation == "train"]
    assert run.outcome is Outcome.CANDIDATE, run.message
    record = next(record for record in site.records().values() if record["kind"] == "RunRecord")
    egress = record["egress"]
    assert isinstance(egress, dict)
    assert [waiver["code"] for waiver in egress["waivers"]] == ["E701"]
    assert [(one["code"], one["waived"]) for one in egress["check"]["findings"]] == [("E701", True)]


@pytest.mark.parametrize("leaks", [False, True])
def test_a_log_is_told_only_where_the_manifest_says_so_and_after_the_check(site: SmallSite, leaks: bool) -> None:
    site.write("experiments/mean/train.py", SCRIPT + ("print(*numbers[20:60])\n" if leaks else ""))
    site.edit("experiments/mean/experiment.yaml", "  seed: 1\n", "  seed: 1\n  egress: {logs: forge}\n")
    site.push("Let the log leave")
    told: list[str] = []
    (run,) = [
        one
        for one in site.apply(report=lambda event: told.append(f"{event.kind} {event.message}")).results
        if one.operation == "train"
    ]
    assert run.outcome is (Outcome.REJECTED if leaks else Outcome.CANDIDATE), run.message
    assert ("Log trained on 300 numbers" in told) is not leaks
    if leaks:
        assert "E701 in log" in run.message


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
