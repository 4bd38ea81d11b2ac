"""The egress guard in apply: what it refuses starts nothing, the rest goes on, and waivers are in the record."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetrain.core.record import parse_record
from edgetrain.reconcile.planning import make_plan
from tests.apply.site import EXPERIMENT, MODEL, SmallSite

WAIVED = """\
  egress:
    waivers:
      - {code: E611, path: train.py, reason: "a check", owner: "@example/ds", expires: "DAY"}
"""


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    """A site with a second experiment, whose script imports a network module."""
    site = SmallSite(tmp_path / "a site").make()
    script = (site.clone / "experiments/mean/train.py").read_text()
    site.write("experiments/bold/experiment.yaml", EXPERIMENT.replace("mean", "bold"))
    site.write("experiments/bold/train.py", "import socket\n" + script)
    site.write("models/bold/model.yaml", MODEL.replace("mean", "bold"))
    return site


def trained(site: SmallSite) -> dict[str, str]:
    """The outcome of each experiment's runs."""
    site.sync()
    found = {}
    for file in site.clone.glob("experiments/*/runs/*-1.json"):
        record = parse_record(file.relative_to(site.clone).as_posix(), file.read_bytes())
        found[str(record.data["experiment"])] = str(record.data["outcome"])
    return found


def test_what_the_guard_refuses_is_not_started_and_the_rest_goes_on(site: SmallSite) -> None:
    site.push("Add a bold experiment")
    result = site.apply()
    assert [p.code for p in result.plan.problems] == ["E611"]
    assert trained(site) == {"mean": "candidate"}


def test_a_waiver_lets_it_run_and_is_in_plan_and_record(site: SmallSite) -> None:
    site.write(
        "experiments/bold/experiment.yaml", EXPERIMENT.replace("mean", "bold") + WAIVED.replace("DAY", "2999-01-01")
    )
    site.push("Add a bold experiment, with a waiver")
    held = {
        "code": "E611",
        "path": "train.py",
        "reason": "a check",
        "owner": "@example/ds",
        "expires": "2999-01-01",
    }
    [told] = [each for each in make_plan(site.clone).egress if each["experiment"] == "bold"]
    assert told["waivers"] == [held]
    site.apply()
    assert trained(site) == {"mean": "candidate", "bold": "candidate"}
    [path] = site.clone.glob("experiments/bold/runs/*-1.json")
    record = parse_record(path.relative_to(site.clone).as_posix(), path.read_bytes()).data
    assert record["egress"]["waivers"] == [held]
    code = record["egress"]["code"]
    assert code == {"files": 1, "bytes": told["code"]["bytes"], "digest": record["identityOf"]["code"]}


def test_an_expired_waiver_starts_nothing_and_leaves_what_is_settled(site: SmallSite) -> None:
    path = "experiments/bold/experiment.yaml"
    site.write(path, EXPERIMENT.replace("mean", "bold") + WAIVED.replace("DAY", "2020-01-01"))
    site.push("Add a bold experiment, with a waiver of old")
    result = site.apply()
    assert {p.code for p in result.plan.problems} == {"E611", "E642"}
    assert trained(site) == {"mean": "candidate"}
    site.edit(path, "2020-01-01", "2999-01-01")
    site.push("Renew it")
    site.apply()
    assert trained(site)["bold"] == "candidate"
    site.edit(path, "2999-01-01", "2020-01-02")
    site.push("As if time went by")
    again = site.apply()
    assert again.plan.problems == ()
    assert not [r for r in again.results if r.operation == "train"]
