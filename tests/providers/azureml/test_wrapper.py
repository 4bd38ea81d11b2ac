"""The run's parent process, started from a snapshot as Azure ML starts it; without Azure ML, which it bears."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.ports import DataSource, InputMount, Leaving, RunSpec
from edgetrain.onsite.azureml import accept, main
from edgetrain.providers.answers import harvest_of
from edgetrain.providers.azureml.compute_kubernetes import PROGRAMS, RESULT
from edgetrain.providers.azureml.pod_order import order
from edgetrain.providers.azureml.snapshot import snapshot
from edgetrain.providers.folder.datastore import FolderDatastore
from edgetrain.providers.local.prepare import this_python
from edgetrain.reconcile.scores import kept_scores, rules_of_scores
from tests.contract.azureml_target import script_alive
from tests.contract.compute import spec, until
from tests.core.build import edited
from tests.core.test_evaluation import PLAIN, desired

pytestmark = pytest.mark.long(0.35)

TOKEN = "run-token-that-nobody-else-may-see"
AZUREML = {"AZUREML_RUN_TOKEN": TOKEN, "AZUREML_RUN_ID": "r", "AZUREML_SERVICE_ENDPOINT": "https://localhost:1"}
LOOK = """
import os, pathlib, sys
told = [name for name in os.environ if name.startswith("AZUREML")]
seen = []
for place in pathlib.Path("/proc").glob("[0-9]*"):
    for name in ("environ", "cmdline"):
        try:
            seen.append((place / name).read_bytes())
        except OSError:
            pass
print("told", told, "token", any(b"AZUREML_RUN_TOKEN" in one for one in seen))
(pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"]) / "model.txt").write_text("weights")
"""


class Started:
    """A wrapper in its snapshot's folder."""

    def __init__(self, folder: Path, work: Path, made: RunSpec, path: str) -> None:
        self.folder, self.work, self.made = folder, work, made
        env = {"PATH": path, "HOME": str(work.parent), **AZUREML}
        command = [sys.executable, "run.py"]
        self.process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    @property
    def log(self) -> str:
        """What the script said, which stays in the work folder."""
        path = self.work / "runs" / self.made.id / "log"
        return path.read_text() if path.exists() else ""

    def end(self) -> tuple[int, str]:
        """Its exit code, and its progress."""
        said, _ = self.process.communicate(timeout=120)
        return self.process.returncode, said

    @property
    def result(self) -> dict[str, Any]:
        """What it leaves for whoever records the run."""
        found: dict[str, Any] = json.loads((self.folder / RESULT).read_text())
        return found


@contextmanager
def wrapper(
    tmp_path: Path, *steps: Any, path: str = os.defpath, files: Mapping[str, str] | None = None, **more: Any
) -> Iterator[Started]:
    """A wrapper that was started on these steps; `files` are put beside the script."""
    more.setdefault("leaving", Leaving({"model.txt": "custom_model"}, metrics=more.pop("metrics", ())))
    made = spec(tmp_path, this_python(), *steps, **more)
    for name, text in (files or {}).items():
        (made.code / name).parent.mkdir(parents=True, exist_ok=True)
        (made.code / name).write_text(text)
    told = order(made, str(tmp_path / "pod"), 10.0, {})
    with snapshot(told, made.code, made.requirements, PROGRAMS) as folder:
        started = Started(folder, tmp_path / "pod", made, path)
        try:
            yield started
        finally:
            started.process.kill()
            started.process.wait()


def with_sandbox() -> str:
    """A search path on which bubblewrap is, and whatever a pod has."""
    return f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"


@pytest.mark.needs("bubblewrap")
def test_the_token_is_nowhere_for_the_script_to_see(tmp_path: Path) -> None:
    with wrapper(tmp_path, path=with_sandbox(), files={"look.py": LOOK}, command="python look.py") as started:
        code, said = started.end()
        assert code == 0, said
        assert "told [] token False" in started.log
        assert TOKEN not in said + started.log
        assert (started.folder / "outputs/model.txt").read_text() == "weights"
        for path in started.work.rglob("*"):
            assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


def test_without_a_sandbox_a_script_sees_no_token_either(tmp_path: Path) -> None:
    """Pods that can't hold a script back are refused or waived; the token is kept from it all the same."""
    path = tmp_path / "bin"
    path.mkdir()
    for name in ("env", "sh", "chmod", "rm", "uv"):
        found = shutil.which(name, path=with_sandbox())
        assert found
        (path / name).symlink_to(found)
    with wrapper(tmp_path, path=str(path), files={"look.py": LOOK}, command="python look.py") as started:
        code, said = started.end()
        assert code == 0, said
        assert "told []" in started.log
        assert TOKEN not in started.log
        assert started.result["state"]["level"] == "advisory"
        assert started.result["examination"]["complete"] is True


def test_who_asks_for_a_sandbox_is_refused_without(tmp_path: Path) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    with wrapper(tmp_path, ["print", "began"], path=str(path), require_enforced=True) as started:
        code, said = started.end()
        assert (code, started.log) == (main.CODES["sandbox"], ""), said
        assert started.result["state"]["ended_by"] == "sandbox"


@pytest.mark.needs("bubblewrap")
def test_outputs_that_stay_are_checked_and_told_of_and_not_given(tmp_path: Path) -> None:
    made = Leaving({"model.txt": "custom_model"}, stay=True)
    with wrapper(tmp_path, ["write", "model.txt", "weights"], path=with_sandbox(), leaving=made) as started:
        code, said = started.end()
        assert (code, "0 files are given" in said) == (0, True), said
        result = started.result
        assert (result["accepted"], [file["path"] for file in result["harvest"]["files"]]) == (True, ["model.txt"])
        assert result["rules"]["files"] == {"model.txt": "custom_model"}
        assert not (started.folder / "outputs/model.txt").exists()


@pytest.mark.needs("bubblewrap")
def test_what_is_not_mounted_in_the_pod_is_told_by_name(tmp_path: Path) -> None:
    model = InputMount("model", DataSource("folder", str(tmp_path / "scoring" / "model")), "")
    with wrapper(tmp_path, ["print", "began"], path=with_sandbox(), inputs=(model,)) as started:
        code, said = started.end()
        assert (code, started.log) == (main.CODES["environment"], ""), said
        assert started.result["state"]["message"].startswith("input model is not mounted in the pod")


@pytest.mark.needs("bubblewrap")
def test_modules_beside_the_script_never_run_with_the_token(tmp_path: Path) -> None:
    """Packages of the experiment's that are called like the standard library's, or like the client."""
    evil = "import pathlib\npathlib.Path('/tmp/edgetrain-evil').touch()\nraise SystemExit(9)\n"
    command = "echo x > {{outputs}}/model.txt"
    names = ("__init__.py", "json.py", "azureml/__init__.py", "onsite/__init__.py", "signal.py")
    with wrapper(tmp_path, path=with_sandbox(), files=dict.fromkeys(names, evil), command=command) as started:
        assert started.end()[0] == 0
    assert not Path("/tmp/edgetrain-evil").exists()


def test_code_that_is_not_what_was_submitted_is_not_run(tmp_path: Path) -> None:
    made = Leaving({"model.txt": "custom_model"})
    with wrapper(tmp_path, ["print", "began"], path="/nowhere", leaving=made) as started:
        started.process.kill()
        started.end()
        (started.folder / "code" / "steps.py").write_text("print('something else')")
        again = Started(started.folder, started.work, started.made, with_sandbox())
        code, said = again.end()
        assert code == main.FAULT
        assert "not what was submitted" in said
        assert again.log == ""


@pytest.mark.needs("bubblewrap")
def test_asked_to_end_it_cancels_the_run(tmp_path: Path) -> None:
    with wrapper(tmp_path, ["print", "ready"], ["hang"], path=with_sandbox()) as started:
        until(lambda: "ready" in started.log, "the script to be ready")
        started.process.send_signal(signal.SIGTERM)
        code, said = started.end()
        assert code == main.CODES["cancel"], said
        assert started.result["state"]["ended_by"] == "cancel"
        mark = f"EDGETRAIN_PARAMS={json.dumps(dict(started.made.parameters), sort_keys=True)}".encode()
        until(lambda: not script_alive(mark), "the script to be dead")


@pytest.mark.needs("bubblewrap")
@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([["exit", 3]], 3),
        ([["write", "model.txt", "x"]], 0),
        ([["print", "x"]], main.REFUSED),
    ],
    ids=["fails", "ends", "leaves nothing"],
)
def test_the_end_is_the_exit_code(tmp_path: Path, steps: list[Any], code: int) -> None:
    with wrapper(tmp_path, *steps, path=with_sandbox()) as started:
        found, said = started.end()
        assert found == code, said
        assert started.result["state"]["ended_by"] == "exit"


@pytest.mark.needs("bubblewrap")
@pytest.mark.parametrize(("step", "phase"), [(["write", "model.txt", "x"], "lost"), (["exit", 3], "ended")])
def test_a_disk_that_fails_is_told_in_a_line(tmp_path: Path, step: list[Any], phase: str) -> None:
    """What can be told of the run is told all the same."""
    with wrapper(tmp_path, step, path="/nowhere") as started:
        started.process.kill()
        started.end()
        shutil.rmtree(started.work, ignore_errors=True)
        # What an output, or the result, is first written to can't be written.
        blocked = ".edgetrain-partial" if phase == "lost" else ".edgetrain-result"
        (started.folder / blocked).mkdir()
        again = Started(started.folder, started.work, started.made, with_sandbox())
        code, said = again.end()
        assert code == main.FAULT, said
        assert "Traceback" not in said
        assert "can't go on: Is a directory" in said
        if phase == "lost":
            assert again.result["state"]["phase"] == phase


def test_the_client_waits_for_no_answer_without_end() -> None:
    """A service that accepts and says nothing; in a process of its own, for it changes the client for good."""
    script = (
        "import socket, requests\n"
        "from edgetrain.onsite.azureml import tracking\n"
        "tracking.TIMEOUT_SECONDS = (0.2, 0.2)\n"
        "tracking.bound()\n"
        "silent = socket.create_server(('127.0.0.1', 0))\n"
        "try:\n"
        "    requests.get(f'http://127.0.0.1:{silent.getsockname()[1]}/')\n"
        "except requests.Timeout:\n"
        "    print('bounded')\n"
    )
    env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "bounded", done.stderr


@pytest.mark.needs("bubblewrap")
def test_what_is_not_accepted_is_told_by_its_declared_name_only(tmp_path: Path) -> None:
    steps = [["write", "model.txt", "x"], ["write", "doe-1931.csv", "private"], ["print", "doe-1931"]]
    with wrapper(tmp_path, *steps, path=with_sandbox()) as started:
        code, said = started.end()
        assert code == main.REFUSED
        left = [path for path in (started.folder / "outputs").rglob("*") if path.is_file()]
        assert left == [started.folder / RESULT]
        assert "1931" not in said + json.dumps(started.result)
        assert started.result["harvest"]["files"] == [{"path": "model.txt", "size": 1, "digest": accept.EMPTY}]


@pytest.mark.needs("bubblewrap")
def test_what_the_content_check_refuses_leaves_no_name_and_no_number(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rows = [
        f"{number},{number * 7919 % 10007},{number * 104729 % 99991},ward {number % 9}" for number in range(500)
    ]
    (data / "patients.csv").write_text("id,a,b,ward\n" + "\n".join(rows))
    store = FolderDatastore(root=data, cache=tmp_path / "digests")
    steps = [
        ["write", "out/doe-1931.csv", f"weights {rows[40]} {rows[41]}"],
        ["write", "metrics.json", json.dumps({"score": 0.7316042})],
    ]
    more: dict[str, Any] = {
        "outputs": {"model": "out"},
        "leaving": Leaving({"out": "custom_model"}, metrics=["score"]),
        "inputs": (InputMount("table", store.source("."), ""),),
    }
    with wrapper(tmp_path, *steps, path=with_sandbox(), **more) as started:
        code, said = started.end()
        assert code == main.REFUSED, said
        left = said + json.dumps(started.result)
        assert [one["where"] for one in started.result["examination"]["findings"]] == ["out"]
        for secret in ("1931", "0.7316042", "patients", rows[40]):
            assert secret not in left


def test_rules_are_those_that_the_runner_judges_by() -> None:
    """The wrapper and the record's maker ask the same of the content check."""
    from edgetrain.core.ports import Harvest, MetricPoint, OutputFile
    from edgetrain.reconcile.facts import leaving_of
    from edgetrain.reconcile.finish import rules_of

    facts: dict[str, Any] = {
        "outputs": {"model": {"path": "out", "type": "custom_model", "maxSize": 2**20}},
        "metrics": ["auroc", "loss"],
        "logs": "forge",
        "waivers": [{"code": "E701", "path": "out/a"}, {"code": "E702"}],
    }
    files = [OutputFile("out/a", 700_000, accept.EMPTY), OutputFile("metrics.json", 5, accept.EMPTY)]
    history = [MetricPoint("loss", 2.0, 1), MetricPoint("loss", 1.5, 2), MetricPoint("other", 1.0, 1)]
    harvest = Harvest(files, {"auroc": 0.9, "other": 1.0}, history)
    told = {
        "files": [vars(file) for file in files],
        "metrics": dict(harvest.metrics),
        "history": [[point.name, point.value, point.step] for point in history],
        "faults": [],
    }
    leaving = asdict(leaving_of(facts))
    assert accept.faults(leaving, told) == []
    assert json.loads(json.dumps(accept.rules(leaving, told))) == json.loads(
        json.dumps(asdict(rules_of(facts, harvest)))
    )


@pytest.mark.parametrize("declared", [(), ("north",)])
def test_of_an_evaluation_the_slices_leave_and_are_looked_at(declared: tuple[str, ...]) -> None:
    """As above; what the runner keeps of it is the same whether the pod or the runner read it."""
    own = f"    metrics: [score]\n    slices: [{', '.join(declared)}]\n"
    state = desired(edited("models/mean/model.yaml", "    metrics: [score]\n", own, PLAIN))
    model = state.models["mean"]
    numbers = {"score": 0.5, "other": 1.0}
    told: dict[str, Any] = {
        "files": [],
        "metrics": numbers,
        "slices": {"north": numbers, "south": numbers},
        "history": [["score", 0.4, 1]],
        "faults": [],
    }
    leaving = asdict(Leaving({}, metrics=model.scored, slices=declared))
    kept = kept_scores(model, harvest_of(json.dumps(told).encode()))
    assert kept == kept_scores(model, harvest_of(json.dumps(accept.told(leaving, told)).encode()))
    assert set(kept[1]) == set(declared or ("north", "south"))
    made = json.loads(json.dumps(accept.rules(leaving, told)))
    assert made == json.loads(json.dumps(asdict(rules_of_scores(*kept))))
    stays = accept.withheld(leaving, told)
    assert (stays["metrics"], stays["slices"]) == ({"score": 0.0}, {name: {} for name in declared})
    # Of a training, whatever is called so in its metrics stays.
    assert accept.told({**leaving, "slices": None}, told)["slices"] == {}
