"""A try-out: the work tree as it lies, under the contract, leaving git and the site as they were."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgetrain.cli.app import app
from edgetrain.core.errors import InvalidFiles, ProviderError, UsageError
from edgetrain.reconcile.log_reader import read_log
from edgetrain.reconcile.report import Event
from edgetrain.reconcile.trial import Asked, parametrised, told_by_script, try_out, value_like, with_data
from edgetrain.render.trial import Trial
from tests.apply.site import SmallSite
from tests.cli.command import environment
from tests.outputs import sound
from tests.reconcile import builders as b


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    return SmallSite(tmp_path / "a site").make()


def tried(site: SmallSite, *, stop: threading.Event | None = None, **asked: Any) -> Trial:
    return try_out(site.clone, Asked("mean", **asked), lambda event: None, stop or threading.Event())


def shape(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_it_runs_uncommitted_code_and_leaves_no_trace(site: SmallSite) -> None:
    text = (site.clone / "experiments/mean/train.py").read_text()
    site.write("experiments/mean/train.py", text.replace("trained on", "tried on"))
    site.write("experiments/mean/new.py", "")
    status, refs, before = site._git("status", "--porcelain"), site._git("for-each-ref"), shape(site.clone / ".git")
    state = shape(site.state)
    lines: list[str] = []
    asked = Asked("mean", parameters={"shift": "0.25"})
    trial = try_out(site.clone, asked, lambda event: None, threading.Event(), lines.append)

    assert (trial.outcome, trial.reason) == ("candidate", "GatesPassed")
    assert trial.metrics == {"score": 0.75}
    assert trial.parameters == {"shift": 0.25}
    assert lines == ["tried on 3 numbers"]
    assert [gate.status for gate in trial.gates] == ["passed", "no_reference"]
    assert [(data.name, data.files, data.bytes, data.given) for data in trial.inputs] == [("table", 1, 6, False)]
    assert site._git("status", "--porcelain") == status
    assert site._git("for-each-ref") == refs
    assert shape(site.clone / ".git").keys() == before.keys()
    assert shape(site.state) == state

    kept = Path(trial.folder)
    assert kept.parent == site.clone / ".edgetrain" / "runs"
    assert json.loads((kept / "outputs/model.json").read_text()) == {"mean": 2.0, "shift": 0.25}
    assert (kept / "log").read_text() == "tried on 3 numbers\n"
    assert json.loads((kept / "result.json").read_text())["outcome"] == "candidate"
    assert list(read_log(site.clone, trial.id)) == ["tried on 3 numbers"]


def test_the_same_again_is_another_try(site: SmallSite) -> None:
    first, second = tried(site), tried(site)
    assert first.id != second.id
    assert first.id.rpartition("-")[0] == second.id.rpartition("-")[0]
    assert Path(first.folder, "outputs/model.json").is_file()
    assert Path(second.folder, "outputs/model.json").is_file()


def test_ignored_though_the_repository_does_not_say_so(site: SmallSite) -> None:
    (site.clone / ".gitignore").unlink()
    site.push("Ignore nothing")
    tried(site)
    assert site._git("status", "--porcelain", "--ignored=no") == ""


def test_other_data_and_a_comparison_that_means_nothing(site: SmallSite, tmp_path: Path) -> None:
    site.release()
    mine = tmp_path / "my data"
    mine.mkdir()
    (mine / "b.txt").write_text("10 20\n")
    trial = tried(site, data={"table": mine}, parameters={"shift": "0.1"})
    assert (trial.outcome, trial.reason) == ("not_better", "NotComparable")
    assert trial.inputs[0].given
    assert json.loads(Path(trial.folder, "outputs/model.json").read_text())["mean"] == 15.0
    same = tried(site, parameters={"shift": "0.9"})
    assert (same.outcome, same.reason) == ("not_better", "GatesFailed")


def test_a_failing_script(site: SmallSite) -> None:
    site.write("experiments/mean/train.py", "print('about to fail')\nraise SystemExit(3)\n")
    trial = tried(site)
    assert (trial.outcome, trial.reason) == ("failed", "ExitCode")
    assert (Path(trial.folder) / "log").read_text() == "about to fail\n"


def test_outputs_that_are_refused_are_not_copied(site: SmallSite) -> None:
    script = (
        "import json, os, pathlib\nout = pathlib.Path(os.environ['EDGETRAIN_OUTPUTS'])\n"
        "(out / 'model.json').write_text('{}')\n(out / 'metrics.json').write_text(json.dumps({'score': 1}))\n"
        "(out / 'link').symlink_to('/etc/passwd')\n"
    )
    site.write("experiments/mean/train.py", script)
    trial = tried(site)
    assert (trial.outcome, trial.reason) == ("rejected", "OutputsRefused")
    assert not (Path(trial.folder) / "outputs").exists()


def test_a_stop_cancels_the_run(site: SmallSite) -> None:
    site.write("experiments/mean/train.py", "import threading\nthreading.Event().wait(300)\n")
    stop = threading.Event()

    def report(event: Event) -> None:
        if event.kind == "Running":
            stop.set()

    trial = try_out(site.clone, Asked("mean"), report, stop)
    assert (trial.outcome, trial.reason) == ("cancelled", "Cancelled")


def test_a_timeout_of_ones_own(site: SmallSite) -> None:
    site.write("experiments/mean/train.py", "import threading\nthreading.Event().wait(300)\n")
    trial = tried(site, timeout=1)
    assert (trial.outcome, trial.reason) == ("failed", "TimedOut")


def test_without_its_model_nobody_judges(site: SmallSite) -> None:
    (site.clone / "models/mean/model.yaml").unlink()
    trial = tried(site)
    assert (trial.outcome, trial.gates) == ("unjudged", ())
    assert any("not declared" in note for note in trial.notes)


def test_a_target_elsewhere_is_tried_here(site: SmallSite) -> None:
    site.write(
        "compute/runner.yaml",
        "apiVersion: edgetrain/v1\nkind: ComputeTarget\nmetadata: {name: runner}\nspec:\n  type: ssh\n"
        "  site: here\n  ssh: {host: 10.0.0.1, username: u, hostKeys: ['ssh-ed25519 AAAA'], "
        "privateKey: {secret: k}}\n",
    )
    trial = tried(site)
    assert (trial.outcome, trial.target) == ("candidate", "this machine")


def test_problems_of_the_experiment_stop_and_those_of_others_do_not(site: SmallSite) -> None:
    site.write("experiments/other/experiment.yaml", "not: a manifest\n")
    assert tried(site).outcome == "candidate"
    site.edit("experiments/mean/experiment.yaml", "seed: 1", "seed: one")
    with pytest.raises(InvalidFiles) as caught:
        tried(site)
    assert {problem.path for problem in caught.value.problems} == {"experiments/mean/experiment.yaml"}


def test_missing_data_says_how_to_give_other(site: SmallSite) -> None:
    (site.data / "table" / "a.txt").unlink()
    (site.data / "table").rmdir()
    with pytest.raises(ProviderError) as caught:
        tried(site)
    assert "--data table=FOLDER" in caught.value.fix
    assert not (site.clone / ".edgetrain" / "runs").exists()


def test_too_much_code_leaves_no_empty_try(site: SmallSite) -> None:
    site.edit("edgetrain.yaml", "  allowUnsandboxed: true", "  allowUnsandboxed: true\n  limits: {codeSize: 10}")
    with pytest.raises(ProviderError) as caught:
        tried(site)
    assert caught.value.reason == "CodeTooLarge"
    assert list((site.clone / ".edgetrain" / "runs").iterdir()) == []


# --- what may be asked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "like", "value"),
    [
        ("0.5", 0.1, 0.5),
        ("1", 0.1, 1),
        ("0.5", 1, 0.5),
        ("1e-4", 0.1, 0.0001),
        ("-3", 1, -3),
        ("true", False, True),
        ("12", "text", "12"),
        ("a=b", "text", "a=b"),
    ],
)
def test_values_take_the_manifest_s_type(text: str, like: Any, value: Any) -> None:
    found = value_like("x", text, like)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ("yes", True),
        ("1", True),
        ("ten", 1),
        ("nan", 0.1),
        ("inf", 0.1),
        ("1_000", 1),
        ("", 1),
        ("true", 1),
        ("٣", 1),
    ],
)
def test_values_of_another_type_are_refused(text: str, like: Any) -> None:
    with pytest.raises(UsageError, match="parameter x is"):
        value_like("x", text, like)


def test_unknown_parameters_and_inputs_are_told_with_a_hint(tmp_path: Path) -> None:
    experiment = b.experiment()
    with pytest.raises(UsageError, match='did you mean "kind"') as caught:
        parametrised(experiment, {"kint": "x"})
    assert caught.value.fix == "its parameters: kind, lr"
    with pytest.raises(UsageError, match='did you mean "images"'):
        with_data(experiment, {"image": tmp_path})
    with pytest.raises(UsageError, match="is no folder"):
        with_data(experiment, {"images": tmp_path / "absent"})


def test_a_single_file_input_wants_a_file(tmp_path: Path) -> None:
    inputs = {"table": {"type": "uri_file", "datastore": "scans", "path": "a.csv"}}
    experiment = b.experiment(inputs=inputs, command="x")
    with pytest.raises(UsageError, match="is no file"):
        with_data(experiment, {"table": tmp_path})
    (tmp_path / "b.csv").write_text("1")
    changed, stores = with_data(experiment, {"table": tmp_path / "b.csv"})
    assert (changed.data["table"].path, stores) == ("b.csv", {"given.table": tmp_path})


def test_a_sweep_is_tried_by_its_first_trial_or_by_what_is_given() -> None:
    sweep = b.experiment(
        searchSpace={"depth": {"type": "choice", "values": [3, 5]}},
        samplingAlgorithm={"type": "grid"},
        objective={"goal": "maximize", "primaryMetric": "auroc"},
    )
    assert parametrised(sweep, {}).parameters == {"lr": 0.1, "kind": "small", "depth": 3}
    assert parametrised(sweep, {"depth": "9"}).parameters["depth"] == 9
    assert parametrised(sweep, {}).sweep is None


# --- on the command line -----------------------------------------------------------------------------


@pytest.fixture
def command(site: SmallSite, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = app.main(["-C", str(site.clone), "run", *arguments], standalone_mode=False)
        found = capsys.readouterr()
        return code, found.out, found.err

    yield call


def test_exit_codes_and_streams(site: SmallSite, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    code, out, err = command("mean", "--format", "json", "--set", "shift=0.95")
    assert (code, sound("run", out)["outcome"]) == (0, "not_better")
    assert "| trained on 3 numbers" in err
    monkeypatch.setenv("CI", "true")
    assert "trained on" not in command("mean")[2]
    assert "trained on" in command("mean", "--show-log")[2]
    site.write("experiments/mean/train.py", "raise SystemExit(1)\n")
    code, out, _ = command("mean")
    assert code == 3
    assert "failed" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("men",),
        ("mean", "--set", "shift"),
        ("mean", "--set", "shift=1", "--set", "shift=2"),
        ("mean", "--set", "shft=1"),
        ("mean", "--data", "table=/nowhere"),
        ("mean", "--timeout", "soon"),
        ("mean", "--timeout", "0s"),
    ],
)
def test_wrong_usage(command: Any, arguments: tuple[str, ...]) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert "fix:" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_and_tells_what_was_kept(site: SmallSite, number: signal.Signals) -> None:
    site.write("experiments/mean/train.py", "import threading\nprint('begun')\nthreading.Event().wait(300)\n")
    command = [sys.executable, "-m", "edgetrain", "run", "mean", "--show-log", "--format", "json"]
    with subprocess.Popen(
        command, cwd=site.clone, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert any("begun" in line for line in process.stderr)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopping the run" in err
    trial = sound("run", out)
    assert trial["outcome"] == "cancelled"
    assert (Path(trial["folder"]) / "log").read_text().startswith("begun\n")


def test_gates_on_slices_wait_for_the_evaluation() -> None:
    gates = [{"metric": "auroc", "min": 0.8}, {"metric": "auroc", "min": 0.7, "slice": "*"}]
    held = {"heldout": {"datastore": "scans", "path": "held/", "digest": "sha256:" + "0" * 64}}
    evaluation = {"code": "evaluation/", "command": "python evaluate.py", "inputs": held}
    evaluated = told_by_script(b.model(gates=gates, evaluation=evaluation))
    assert [gate.slice for gate in evaluated.gates] == [None]
    assert [gate.slice for gate in told_by_script(b.model(gates=gates)).gates] == [None, "*"]
