"""What an evaluated run's records tell, recomputed from git: each of its places is changed, and verify names it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.digest import digest_of
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.core.record import EvaluationRecord, RunRecord, parse_record, serialise
from edgetrain.core.recorded import Recorded
from edgetrain.reconcile.judge import machines_of
from edgetrain.reconcile.lookup import read_main
from edgetrain.reconcile.state import State
from edgetrain.reconcile.verify import verify
from edgetrain.reconcile.verify_asked import Demands
from edgetrain.reconcile.verify_judged import Judgements
from edgetrain.reconcile.verify_runs import Past, reference_checks, run_checks
from tests.apply.evaluated import EVALUATE, EvaluatedSite

pytestmark = pytest.mark.xdist_group("verify-evaluation")
Place = tuple[str | int, ...]
# What only the site saw: no commit tells it, so the record's own digest, which others cite, is all there is.
SEEN_AT_THE_SITE = (
    "message",
    "usage",
    "target.isolation",
    "workspace",
    "egress.check",
    "selfReported",
    "evaluation.target",
    "evaluation.egress",
    "evaluation.inputs.heldout.files",
    "evaluation.inputs.heldout.bytes",
    "evaluation.references.production.target",
    "evaluation.references.production.egress",
    # Told by this record alone, and no gate looked at it.
    "evaluation.references.production.metrics",
)


@dataclass
class Evaluated:
    """The site after its life, what main's tip holds, and what was looked at of its past."""

    site: EvaluatedSite
    state: State
    past: Past
    demands: Demands

    def judgements(self, recorded: Recorded) -> Judgements:
        return Judgements(self.state.desired, recorded, self.demands, shallow=False)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Version 1 in production; a second run beside it; gates and an evaluation that changed."""
    site = EvaluatedSite(tmp_path_factory.mktemp("evaluated")).make()
    site.release()
    site.shift("0.5", "1.0")
    site.push("Try another shift")
    assert site.apply().good
    site.sync()
    site.edit("models/mean/model.yaml", "max: 2}", "max: 0.1}")
    site.write("models/mean/evaluation/evaluate.py", EVALUATE.replace("guess)", "guess) * 2", 1))
    site.push("Ask for more, and count errors twice")
    assert site.apply().good
    site.sync()
    state = read_main(site.clone)
    past = Past(state, lambda: machines_of(state.git, state.commit))
    return Evaluated(site, state, past, Demands(state.git, state.commit, past.tree))


def leaves(value: Any, at: Place = ()) -> Iterator[Place]:
    """Each place that holds no object and no list, and each that holds an empty one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = False
    for key, item in inner:
        found = True
        yield from leaves(item, (*at, key))
    if not found:
        yield at


def other(value: Any) -> Any:
    """Another value of the same type, as near as may be."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1:] != "0" else "1")
    return {"more": 1} if isinstance(value, dict) else ["more"] if isinstance(value, list) else "something"


def changed(data: dict[str, Any], place: Place) -> dict[str, Any]:
    """The record with one place changed, and the digests of it made anew: as only the machine could."""
    found = copy.deepcopy(data)
    at: Any = found
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = other(at[place[-1]])
    for holder in (found, found.get("evaluation")):
        if holder and "identityOf" in holder and place[-1] != "identity":
            holder["identity"] = digest_of(holder["identityOf"])
    return found


def path_of(record: RunRecord | EvaluationRecord, data: dict[str, Any]) -> str:
    if not isinstance(record, RunRecord):
        return record.path
    identity = str(data["identity"]).removeprefix("sha256:")[:12]
    return f"experiments/{data['experiment']}/runs/{identity}-{data['attempt']}.json"


def checks(evaluated: Evaluated, record: RunRecord | EvaluationRecord, place: Place) -> list[Check] | None:
    """What verify says of the record with that place changed; None if it can't be read any more."""
    recorded = evaluated.state.recorded
    data = changed(dict(record.data), place)
    try:
        spoilt = parse_record(path_of(record, data), serialise(data), record.ordinal)
    except ValueError:
        return None
    rest = [one for one in (*recorded.runs, *recorded.evaluations) if one is not record]
    others = [*rest, *recorded.proposals, *recorded.releases, spoilt]
    judgements = evaluated.judgements(Recorded.of(others))
    if isinstance(spoilt, RunRecord):
        evaluated.past.judgements = judgements
        return list(run_checks(spoilt, evaluated.past))
    return list(reference_checks(Recorded.of(others), evaluated.state.desired, None, judgements))


def test_it_holds_as_it_is(evaluated: Evaluated) -> None:
    found = verify(evaluated.site.clone, None, deep=True)
    assert [check for part in found.parts for check in part.checks if check.status is not CheckStatus.PASS] == []
    recorded = evaluated.state.recorded
    scored = [record for record in (*recorded.runs, *recorded.evaluations) if "evaluation" in record.data]
    assert [type(record).__name__ for record in scored] == ["RunRecord", "RunRecord", "EvaluationRecord"]
    assert any(record.data["evaluation"]["references"] for record in recorded.evaluations)


@pytest.mark.parametrize("kind", [RunRecord, EvaluationRecord], ids=lambda kind: kind.__name__)
def test_every_place_of_a_record_is_recomputed(evaluated: Evaluated, kind: type[Any]) -> None:
    recorded = evaluated.state.recorded
    records = [one for one in (*recorded.runs, *recorded.evaluations) if isinstance(one, kind)]
    well = []
    for record in records:
        for place in leaves(record.data):
            found = checks(evaluated, record, place)
            name = ".".join(map(str, place))
            if found is not None and all(check.status is CheckStatus.PASS for check in found):
                well.append(name)
    unsaid = sorted({name for name in well if not name.startswith(SEEN_AT_THE_SITE)})
    assert unsaid == []


def test_a_model_is_verified_with_the_runs_that_became_no_version(evaluated: Evaluated, tmp_path: Path) -> None:
    site = EvaluatedSite(tmp_path)
    evaluated.site._git("clone", "--quiet", str(evaluated.site.remote), str(site.clone))
    site._git("remote", "remove", "origin")
    path = evaluated.state.recorded.evaluations[0].path
    site._git("rm", "--quiet", path)
    site._git("commit", "--quiet", "-m", "Forget")
    for named, missed in ((None, True), ("mean", True), ("mean@1", False)):
        parts = verify(site.clone, named).parts
        told = [check.message for part in parts for check in part.checks if check.reason == "H402"]
        assert any(path in message for message in told) is missed
        assert any(part.kind == "runs" for part in parts) is missed
