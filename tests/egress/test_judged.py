"""From the content check's answer to the run's record: nothing unsound passes, and nothing of the data is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgetrain.core.codes import CODES
from edgetrain.core.egress import WAIVABLE
from edgetrain.core.ports import EgressFinding, EgressLevel, Examination, Harvest, MetricPoint, OutputFile
from edgetrain.core.record import Outcome
from edgetrain.providers.answers import examination_of, harvest_of, notes_of
from edgetrain.reconcile.finish import check, check_json, refusal, rules_of

FACTS: dict[str, Any] = {
    "outputs": {
        "model": {"type": "custom_model", "path": "out/model", "maxSize": 1000},
        "card": {"type": "custom_model", "path": "card.md", "maxSize": 1000},
    },
    "metrics": ["auroc", "loss"],
    "logs": "site",
    "waivers": [{"code": "E706", "path": "out/model", "reason": "public", "owner": "@a", "expires": "2099-01-01"}],
}
ANSWER: dict[str, Any] = {
    "complete": True,
    "reason": "",
    "findings": [{"code": "E701", "where": "out/model/jane-doe.bin", "what": "holds rows", "waived": False}],
    "files": 2,
    "bytes": 300,
    "fingerprints": 9,
    "coverage": 1.0,
    "data": 12,
    "seconds": 0.5,
}


def test_what_would_leave_is_what_is_looked_at() -> None:
    files = [OutputFile(path, 1, "sha256:" + "0" * 64) for path in ("out/model/a", "card.md", "metrics.json")]
    points = [MetricPoint("loss", 0.5, 7), MetricPoint("secret", 0.1, 1)]
    rules = rules_of(FACTS, Harvest(files, {"auroc": 0.9, "secret": 1.0}, points))
    assert set(rules.files) == {"out/model/a", "card.md"}
    assert dict(rules.metrics) == {"auroc": 0.9, "loss": 0.5}
    assert list(rules.history) == [("loss", 0.5), ("loss step", 7.0)]
    assert list(rules.waived) == [("E706", "out/model")]
    assert not rules.log
    assert rules_of({**FACTS, "logs": "forge"}, Harvest(files, {"auroc": 0.9}, points)).log


def test_a_finding_rejects_and_names_no_file() -> None:
    found = examination_of(json.dumps(ANSWER).encode())
    verdict = refusal(FACTS, found)
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECTED, "EgressRefused")
    assert verdict.message == "E701 in output model: holds rows"
    told = check_json(FACTS, found)
    assert told["findings"] == [{"code": "E701", "where": "output model", "what": "holds rows", "waived": False}]
    assert "jane" not in json.dumps(told)


@pytest.mark.parametrize("where", ["jane-doe", "../x", "metrics.json"])
def test_a_place_that_nobody_knows_is_not_repeated(where: str) -> None:
    finding = EgressFinding("E702", where, "holds a file")
    verdict = refusal(FACTS, Examination(True, [finding], 1, 1, 1, "enforced"))
    assert verdict.message == "E702 in the outputs: holds a file"


def test_what_is_waived_passes() -> None:
    waived = EgressFinding("E706", "out/model", "keeps rows", waived=True)
    assert refusal(FACTS, Examination(True, [waived], 1, 1, 1, "enforced")).outcome is None
    other = EgressFinding("E701", "card.md", "holds rows")
    assert refusal(FACTS, Examination(True, [waived, other], 1, 1, 1, "enforced")).message.startswith(
        "E701 in output card"
    )


def test_a_check_that_was_cut_short_rejects_whatever_is_waived() -> None:
    waived = EgressFinding("E706", "out/model", "keeps rows", waived=True)
    verdict = refusal(FACTS, Examination(False, [waived], 1, 1, 1, "enforced", reason="too large"))
    assert verdict.outcome is Outcome.REJECTED
    assert "E708" in verdict.message and "too large" in verdict.message
    assert "E708" in CODES and "E708" not in WAIVABLE and "E701" in WAIVABLE


@pytest.mark.parametrize(
    "change",
    [
        {"complete": "yes"},
        {"findings": [{"code": "X1", "where": "a", "what": "b", "waived": False}]},
        {"findings": [{"code": "E701", "where": "a\nb", "what": "b", "waived": False}]},
        {"findings": [{"code": "E701", "where": "a", "what": "b", "waived": "no"}]},
        {"findings": [{"code": "E701", "where": "a", "what": "b" * 1000, "waived": False}]},
        {"findings": "none"},
        {"files": -1},
        {"bytes": True},
        {"seconds": "1"},
        {"coverage": None},
    ],
)
def test_an_unsound_answer_is_no_check(change: dict[str, Any]) -> None:
    found = examination_of(json.dumps({**ANSWER, **change}).encode(), EgressLevel.ADVISORY)
    assert (found.complete, found.level) == (False, "advisory")
    assert refusal(FACTS, found).outcome is Outcome.REJECTED
    for data in (b"", b"[]", b"{", b"null", b"[" * 100_000):
        assert not examination_of(data).complete
        assert harvest_of(data).faults
        assert notes_of(data) == []


def test_a_fault_names_declared_metrics_only() -> None:
    def said(fault: str) -> str:
        return check(FACTS, Harvest((), {}, faults=(fault,))).message

    assert said("metrics.json: auroc is not a finite number") == "metrics.json: auroc is not a finite number"
    assert said("metrics.json: jane doe 1980 is not a number") == (
        "metrics.json: a metric that is not declared is not a number"
    )
    assert "jane" not in said("mlflow.db: jane is not a number is not a finite number")
