"""`edgetrain reproduce`: a version trained again, and where it differs, with nothing written anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.errors import (
    Conflict,
    Denied,
    NotFound,
    ProviderError,
    RepositoryError,
    Transient,
    Unavailable,
    UsageError,
)
from edgetrain.core.ports import RunPhase, RunState, TargetStatus
from edgetrain.onsite.azureml import accept
from edgetrain.providers.azureml.compute_kubernetes import AzuremlKubernetesCompute
from edgetrain.providers.azureml.names import experiment_of, ours, theirs
from edgetrain.providers.local.provider import LocalCompute
from edgetrain.providers.ssh.provider import SshCompute
from edgetrain.reconcile.aside import AsideSite, _held
from edgetrain.reconcile.lookup import read_main
from edgetrain.reconcile.report import Event
from edgetrain.reconcile.reproduce import compared, reproduce, target_of, verdict
from edgetrain.reconcile.resubmit import AGAIN, FORGOTTEN, Notes, Submitted, check_whose, kept_for_later, let_go
from edgetrain.reconcile.runs import cancel, list_runs
from edgetrain.reconcile.site import Site
from edgetrain.render.reproduction import (
    Finding,
    Reproduction,
    Verdict,
    Where,
    reproduction_json,
    reproduction_markdown,
    reproduction_text,
)
from tests.apply.site import SmallSite
from tests.cli.command import edgetrain
from tests.core.build import desired
from tests.core.test_planner_attachments import CLUSTER, files
from tests.outputs import sound

NOISE = """\
noise = 0.0
if options.shift < 0.4:
    noise = (1 + int.from_bytes(os.urandom(4), "big")) * 1e-12
(out / "model.json").write_text(json.dumps({"mean": sum(numbers) / len(numbers), "shift": options.shift + noise}))
(out / "metrics.json").write_text(json.dumps({"score": 1 - abs(options.shift) - noise}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> SmallSite:
    """Version 1 is the same each time; version 2 never is."""
    made = SmallSite(tmp_path_factory.mktemp("again") / "a site").make()
    script = (made.clone / "experiments/mean/train.py").read_text().splitlines(keepends=True)
    plain = [line for line in script if not line.startswith('(out / "')]
    made.write("experiments/mean/train.py", "".join([*plain[:-1], NOISE, plain[-1]]))
    made.push("Add some noise")
    made.release()
    made.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.3")
    made.push("Shift less")
    made.apply()
    made.merge_proposal(2)
    # What the work tree and main have by now is not what the versions were made of.
    made.write("experiments/mean/train.py", "raise SystemExit(3)\n")
    made.edit("experiments/mean/experiment.yaml", "shift: 0.3", "shift: 0.7")
    made.push("Break it")
    return made


def again(
    site: SmallSite, version: str = "mean@1", tolerance: float = 0.0, target: str | None = None
) -> Reproduction:
    return reproduce(site.clone, version, target, tolerance, lambda event: None, threading.Event())


def shape(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_the_same_to_the_byte_and_nothing_is_written(site: SmallSite) -> None:
    refs, state = site._git("for-each-ref"), shape(site.state)
    found = again(site)
    assert (found.verdict, found.findings, found.good) == (Verdict.IDENTICAL, (), True)
    assert [(one.name, one.recorded, one.now, one.within) for one in found.metrics] == [("score", 0.5, 0.5, True)]
    assert (found.target, found.recorded_target) == ("runner", "runner")
    assert (site._git("for-each-ref"), shape(site.state)) == (refs, state)
    assert site._git("status", "--porcelain") == ""
    assert sorted(file.name for file in (site.clone / ".edgetrain/runs" / found.run).iterdir()) == ["result.json"]
    ended = edgetrain("reproduce", "mean@production", "--format", "json", cwd=site.clone)
    assert (ended.code, ended.json["kind"], ended.json["verdict"]) == (0, "Reproduction", "identical")
    assert ended.json["run"] != found.run


KILLED = """\
import os, sys, threading
from pathlib import Path
from edgetrain.reconcile import reproduce

setattr(reproduce, sys.argv[2], lambda *_: os._exit(9))
reproduce.reproduce(Path(sys.argv[1]), "mean@1", None, 0.0, lambda event: None, threading.Event())
"""


@pytest.mark.parametrize("at", ["begin", "watch", "compared", "_kept"])
def test_what_a_killed_call_left_here_is_taken_up(site: SmallSite, at: str) -> None:
    adopts = at in ("watch", "compared")
    runs = site.clone / ".edgetrain/runs"
    before = set(runs.iterdir()) if runs.is_dir() else set()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(site.clone), at], check=False)
    assert killed.returncode == 9
    [left] = set(runs.iterdir()) - before
    told: list[Event] = []
    with _held(left) as mine:
        assert mine
        other = again(site)
    found = reproduce(site.clone, "mean@1", None, 0.0, told.append, threading.Event())
    assert found.verdict is Verdict.IDENTICAL
    assert (found.run == left.name, other.run == left.name) == (at != "_kept", False)
    assert [event.subject for event in told if event.kind == "Adopted"] == [left.name] * adopts
    assert [event.kind for event in told].count("Starting") == (not adopts)
    assert (
        AsideSite(read_main(site.clone).desired.configuration, "here", site.clone, {}).this_machine().runs() == []
    )


def test_other_bytes_with_metrics_within_the_tolerance(site: SmallSite) -> None:
    found = again(site, "mean@2", tolerance=0.01)
    assert (found.verdict, found.where) == (Verdict.EQUAL, ("bytes", "metrics"))
    assert [(one.where, one.what) for one in found.findings] == [
        (Where.BYTES, "model.json"),
        (Where.METRICS, "score"),
    ]
    assert "no metric is further off than 0.01" in reproduction_text(found)


def test_metrics_further_off_are_different(site: SmallSite) -> None:
    ended = edgetrain("reproduce", "mean@2", cwd=site.clone)
    assert ended.code == 1
    assert "mean@2: different (bytes, metrics differ)" in ended.out


@pytest.mark.parametrize("gone", [True, False])
def test_data_that_is_gone_or_other_is_said_and_nothing_is_run(site: SmallSite, gone: bool) -> None:
    table = site.data / "table"
    file, away = table / "a.txt", site.data / "away"
    file.rename(away)
    if gone:
        table.rmdir()
    else:
        file.write_text("4 5 6\n")
    try:
        found = again(site)
    finally:
        table.mkdir(exist_ok=True)
        away.rename(file)
    assert (found.verdict, found.where, found.run) == (Verdict.DIFFERENT, ("data",), "")
    assert (found.findings[0].now == "gone") is gone
    assert "It was not trained again" in reproduction_markdown(found)


def test_another_environment_is_told_beside_the_result(site: SmallSite, monkeypatch: pytest.MonkeyPatch) -> None:
    observe = LocalCompute.observe

    def elsewhere(self: LocalCompute) -> TargetStatus:
        status = observe(self)
        return TargetStatus(**{**vars(status), "platform": "linux/arm64"})

    monkeypatch.setattr(LocalCompute, "observe", elsewhere)
    found = again(site)
    assert found.verdict is Verdict.IDENTICAL
    [one] = found.findings
    assert (one.where, one.what, one.now) == (Where.ENVIRONMENT, "platform", "linux/arm64")
    assert "in spite of what differs" in reproduction_text(found)


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ({"ended_by": "exit", "exit_code": 1}, "failed"),
        ({"ended_by": "memory"}, "failed"),
        ({"ended_by": "sandbox"}, ""),
    ],
)
def test_a_run_that_ends_otherwise(
    site: SmallSite, monkeypatch: pytest.MonkeyPatch, end: dict[str, Any], told: str
) -> None:
    inspect = LocalCompute.inspect

    def ended(self: LocalCompute, run: str) -> RunState:
        state = inspect(self, run)
        return RunState(RunPhase.ENDED, **end) if state.phase is RunPhase.ENDED else state

    monkeypatch.setattr(LocalCompute, "inspect", ended)
    if not told:
        with pytest.raises(Unavailable):
            again(site)
        return
    found = again(site)
    assert (found.verdict, found.where) == (Verdict.DIFFERENT, ("outcome",))
    assert found.findings[0].now.startswith(told)


def test_what_can_not_be_run_is_refused(site: SmallSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError):
        again(site, "mean@7")
    with pytest.raises(UsageError) as wrong:
        again(site, target="runnr")
    assert "runner" in wrong.value.message
    shallow = tmp_path / "shallow"
    site._git("clone", "--quiet", "--depth", "1", site.remote.as_uri(), str(shallow))
    with pytest.raises(RepositoryError):
        reproduce(shallow, "mean@1", None, 0.0, lambda event: None, threading.Event())
    assert edgetrain("reproduce", "mean@1", cwd=shallow).code == 3

    def silent(*_: object) -> Any:
        raise NotFound("no bubblewrap", reason="SandboxMissing", fix="install it")

    monkeypatch.setattr(LocalCompute, "start", silent)
    before = sorted((site.clone / ".edgetrain").glob("runs/*"))
    with pytest.raises(NotFound):
        again(site)
    assert sorted((site.clone / ".edgetrain").glob("runs/*")) == before


def test_where_azure_ml_starts_runs_the_sites_own_way_is_taken_if_there_is_one(site: SmallSite) -> None:
    """To an attached VM; what only Azure ML reaches is submitted to."""
    git = read_main(site.clone)
    [run, *_] = git.recorded.runs
    state = desired({**files("vm"), "compute/hub.yaml": CLUSTER})
    assert [target_of(state, run, name).only_submitted for name in ("vm", "hub")] == [False, True]
    place = Site(state.configuration, "here", site.clone)
    assert isinstance(place.aside(state.targets["vm"]), SshCompute)


class Submitting(LocalCompute):
    """A cluster in memory: `states` are its runs, `asked` what was asked of it."""

    def __init__(self, **states: RunState) -> None:
        self.states, self.asked = states, list[str]()

    def inspect(self, run: str) -> RunState:
        return self.states.get(run.rpartition("-")[2], RunState(RunPhase.ABSENT))

    def forget(self, run: str) -> None:
        self.asked.append(f"forget {run.rpartition('-')[2]}")

    def cancel(self, run: str, reason: str) -> None:
        self.asked.append(f"cancel {run.rpartition('-')[2]}")


LOST, RUNNING = RunState(RunPhase.LOST), RunState(RunPhase.RUNNING)
EXITED = RunState(RunPhase.ENDED, ended_by="exit", exit_code=0, started="2026-01-01T00:00:00Z")
DONE, STOPPED = RunState(RunPhase.ENDED, ended_by="exit"), RunState(RunPhase.ENDED, ended_by="cancel")
NOT_BUILT, NEVER = (RunState(RunPhase.ENDED, ended_by=by) for by in ("environment", "timeout"))


@pytest.mark.parametrize(
    ("states", "taken", "asked"),
    [
        ({}, 1, []),
        ({"1": RUNNING}, 1, ["cancel 1"]),
        ({"1": LOST, "2": STOPPED, "3": NOT_BUILT, "4": DONE}, 4, ["forget 1", "forget 2", "forget 3", "forget 4"]),
        ({"1": LOST, "2": NEVER}, 3, ["forget 1", "forget 2"]),
    ],
)
def test_what_an_ended_call_left_is_taken_up_or_let_go(
    site: SmallSite, states: dict[str, RunState], taken: int, asked: list[str]
) -> None:
    state = read_main(site.clone)
    [run, *_] = state.recorded.runs
    hub = desired({**files("vm"), "compute/hub.yaml": CLUSTER}).targets["hub"]
    made = Submitted("mean@1", run, state.desired.experiments["mean"], hub)
    compute, notes = Submitting(**states), Notes(Site(state.desired.configuration, "here", site.clone))
    for attempt in range(1, taken):
        notes.write(made.name(attempt), made)
    name, seen = made.left(compute, notes)
    assert notes.read() == {}
    assert (name, seen) == (made.name(taken), states.get(str(taken), RunState(RunPhase.ABSENT)))
    assert AGAIN.fullmatch(name) and theirs(name) == name.replace(".", "_") and ours(theirs(name)) == name
    assert experiment_of(name) == "mean_reproduce"
    compute.asked.clear()
    let_go(compute, made, notes, lambda event: None)
    assert compute.asked == asked
    leaving = made.more(Site(state.desired.configuration, "here", site.clone))["leaving"]
    assert (leaving.stay, leaving.log, dict(leaving.outputs)) == (True, False, {"model.json": "custom_model"})


class Pod(AzuremlKubernetesCompute):
    """A cluster whose one run has left this."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result

    def _ended(self, run_id: str) -> dict[str, Any]:
        return self.result


CHECKED = {
    "complete": True,
    "findings": [],
    "files": 1,
    "bytes": 9,
    "fingerprints": 1,
    "coverage": 1.0,
    "seconds": 1.0,
}
FOUND = {"code": "E701", "where": "model.json", "what": "rows of the data", "waived": False}


def test_what_a_pod_left_is_judged_as_on_other_targets(site: SmallSite) -> None:
    state = read_main(site.clone)
    [run] = [one for one in state.recorded.runs if one.metrics["score"] == 0.5]
    hub = desired({**files("vm"), "compute/hub.yaml": CLUSTER}).targets["hub"]
    made = Submitted("mean@1", run, state.desired.experiments["mean"], hub)
    leaving = asdict(made.more(site.opened())["leaving"])
    [file] = run.data["outputs"]["model"]["files"]
    own = {
        "files": [dict(file)],
        "metrics": {"score": 0.5},
        "slices": {},
        "history": [["score", 0.5, 1]],
        "faults": [],
    }

    def judged(harvest: dict[str, Any], checked: dict[str, Any], tolerance: float = 0.0) -> tuple[Any, list[str]]:
        """As the wrapper leaves it, and `reproduce` reads it."""
        refused = accept.faults(leaving, harvest)
        rules = json.loads(json.dumps(accept.rules(leaving, harvest)))
        result: dict[str, Any] = {"state": {"level": "enforced"}, "rules": rules, "examination": checked}
        if refused or not accept.passes(checked):
            del result["rules"]
            result |= {"accepted": False, "harvest": accept.withheld(leaving, harvest)}
        else:
            result |= {"accepted": True, "harvest": accept.told(leaving, harvest)}
        findings, metrics = compared(made.experiment, run, Pod(result), "x", EXITED, tolerance, made.facts)
        return verdict(findings, metrics), [f"{one.where.value} {one.what}" for one in findings]

    assert judged(own, CHECKED) == (Verdict.IDENTICAL, [])
    off = {**own, "metrics": {"score": 0.25}, "files": [{**file, "digest": "sha256:" + "1" * 64}]}
    assert judged(off, CHECKED) == (Verdict.DIFFERENT, ["bytes model.json", "metrics score"])
    assert judged(off, CHECKED, 0.5) == (Verdict.EQUAL, ["bytes model.json", "metrics score"])
    assert judged(own, {**CHECKED, "findings": [FOUND]}) == (Verdict.DIFFERENT, ["outcome EgressRefused"])
    assert judged({**own, "files": []}, CHECKED) == (Verdict.DIFFERENT, ["outcome OutputMissing"])
    large = {**own, "files": [{**file, "size": 2**30}]}
    assert judged(large, CHECKED) == (Verdict.DIFFERENT, ["outcome OutputTooLarge"])
    assert judged({**own, "faults": ["a link"]}, CHECKED) == (Verdict.DIFFERENT, ["outcome OutputsRefused"])


def noted(site: SmallSite, attempt: int = 1) -> tuple[Notes, str]:
    """The notes at the site, and a run that is noted there."""
    state = read_main(site.clone)
    run, notes = state.recorded.runs[0], Notes(Site(state.desired.configuration, "here", site.clone))
    made = Submitted("mean@1", run, state.desired.experiments["mean"], state.desired.targets["runner"])
    notes.write(made.name(attempt), made)
    return notes, made.name(attempt)


@pytest.mark.parametrize(
    ("state", "phase", "words", "asked"),
    [
        (RunState(RunPhase.ABSENT), "not submitted", "is cancelled; nothing was compared", ["cancel 7"]),
        (RUNNING, "running", "is cancelled; nothing was compared", ["cancel 7"]),
        (DONE, "ended", "is over already; edgetrain reproduce mean@1 --target runner compares it", []),
        (STOPPED, None, None, []),
        (LOST, None, None, []),
    ],
)
def test_what_a_killed_call_left_is_listed_and_can_be_ended(
    site: SmallSite,
    monkeypatch: pytest.MonkeyPatch,
    state: RunState,
    phase: str | None,
    words: str | None,
    asked: list[str],
) -> None:
    notes, name = noted(site, 7)
    compute = Submitting(**{"7": state})
    monkeypatch.setattr(Site, "compute", lambda place, target: compute)
    rows = [row for row in list_runs(site.clone).rows if row.state == "under way"]
    assert [(row.id, row.model, row.phase) for row in rows] == ([(name, "mean", phase)] if phase else [])
    if words is None:  # nobody waits for it
        assert notes.read() == {}
        notes, name = noted(site, 7)
        words = "is cancelled; nothing was compared"
    with pytest.raises(UsageError, match="no apply waits for it"):
        cancel(site.clone, name, lost=True)
    assert words in cancel(site.clone, theirs(name), reason="too slow")
    assert (compute.asked, sorted(notes.read())) == (asked, [name] if state is DONE else [])
    notes.drop(name)
    (site.state / "reproductions" / name).write_text("torn")
    (site.state / "reproductions" / "other").write_text("{}")
    assert notes.read() == {}
    with pytest.raises(UsageError, match="no run"):
        cancel(site.clone, name)
    notes.drop(name)


def test_a_run_that_can_not_be_asked_is_left_to_the_next_call_and_others_are_read(site: SmallSite) -> None:
    for raised, forgotten in ((Transient("away"), False), (Denied("no"), False), (Unavailable("x"), True)):
        compute = Submitting()
        notes, name = noted(site)
        with pytest.raises(ProviderError) as told, kept_for_later(compute, notes, name):
            raise raised
        assert (bool(compute.asked), not notes.read()) == (forgotten, forgotten)
        assert ("take it up" in told.value.fix) is not forgotten
    with pytest.raises(Conflict):
        check_whose(RunState(RunPhase.LOST, message=FORGOTTEN))


def test_hostile_words_of_a_result_are_harmless() -> None:
    finding = Finding(Where.BYTES, "a|b`<script>\x1b[31m", "sha256:x", "gone")
    found = Reproduction("m@1", "run", "c" * 40, Verdict.DIFFERENT, (finding,), "t", "u", 0.0)
    assert "\x1b" not in reproduction_text(found) + reproduction_markdown(found)
    assert "<script>" not in reproduction_markdown(found)
    assert sound("reproduce", reproduction_json(found))["where"] == ["bytes"]
