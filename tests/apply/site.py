"""A small real site for tests: bare remote, clone, data folder, state, and an experiment without packages."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

from edgetrain.core.digest import parse_canonical
from edgetrain.core.kinds import Configuration
from edgetrain.providers.mlflow.provider import MlflowWorkspace
from edgetrain.reconcile.apply import Options, apply
from edgetrain.reconcile.report import ApplyResult, Event
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.state import read_tip
from edgetrain.repo.git import Git

PERSON = {"GIT_AUTHOR_NAME": "Dana", "GIT_AUTHOR_EMAIL": "dana@example.org"}
PERSON |= {"GIT_COMMITTER_NAME": "Dana", "GIT_COMMITTER_EMAIL": "dana@example.org"}

CONFIGURATION = """\
apiVersion: edgetrain/v1
kind: Configuration
metadata: {name: edgetrain}
spec:
  sites:
    here:
      state: STATE
      datastores:
        store: {type: folder, path: DATA}
  allowUnsandboxed: true
"""
TARGET = """\
apiVersion: edgetrain/v1
kind: ComputeTarget
metadata: {name: runner}
spec: {type: local, site: here, capacity: {slots: 2}}
"""
EXPERIMENT = """\
apiVersion: edgetrain/v1
kind: Experiment
metadata: {name: mean}
spec:
  model: mean
  compute: runner
  command: python train.py --data ${{inputs.table}} --shift ${{inputs.shift}}
  inputs:
    table: {type: uri_folder, datastore: store, path: table/, digest: latest}
    shift: 0.5
  outputs:
    model: {type: custom_model, path: model.json, maxSize: 1Mi}
  metrics: [score]
  limits: {timeout: 2m, retries: 1}
  seed: 1
"""
MODEL = """\
apiVersion: edgetrain/v1
kind: Model
metadata: {name: mean, owners: ["@example/ds"]}
spec:
  card: {intendedPurpose: "Tests.", riskClass: low}
  gates:
    - {metric: score, goal: maximize, min: 0.1, notWorseThan: production}
  release: review
  image: {repository: mean}
  channels: {}
"""
SCRIPT = """\
import argparse, json, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--data", type=pathlib.Path)
parser.add_argument("--shift", type=float)
options = parser.parse_args()
numbers = [float(line) for file in sorted(options.data.iterdir()) for line in file.read_text().split()]
out = pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"])
(out / "model.json").write_text(json.dumps({"mean": sum(numbers) / len(numbers), "shift": options.shift}))
(out / "metrics.json").write_text(json.dumps({"score": 1 - abs(options.shift)}))
print("trained on", len(numbers), "numbers")
"""


@cache
def empty_workspace() -> Path:
    """A fresh MLflow store, made once a process: its migrations take seconds."""
    folder = Path(tempfile.mkdtemp(prefix="edgetrain-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    MlflowWorkspace(uri="", state=folder).observe(["mean"])
    return folder / "mlflow.db"


class _Death(BaseException):
    """The end of an apply at one of its steps."""


class SmallSite:
    """The site under one folder. People's steps are methods; `apply` is the runner."""

    def __init__(self, folder: Path) -> None:
        self.remote = folder / "remote.git"
        self.clone = folder / "clone"
        self.state = folder / "state"
        self.data = folder / "data"

    def make(self) -> SmallSite:
        """Create everything and push the first commit."""
        (self.data / "table").mkdir(parents=True)
        (self.data / "table" / "a.txt").write_text("1 2 3\n")
        self.clone.mkdir()
        self._git("init", "--quiet", "--bare", "-b", "main", str(self.remote))
        self._git("init", "--quiet", "-b", "main", ".")
        self._git("remote", "add", "origin", str(self.remote))
        configuration = CONFIGURATION.replace("STATE", json.dumps(str(self.state)))
        self.write("edgetrain.yaml", configuration.replace("DATA", json.dumps(str(self.data))))
        self.write("compute/runner.yaml", TARGET)
        self.write("experiments/mean/experiment.yaml", EXPERIMENT)
        self.write("experiments/mean/train.py", SCRIPT)
        self.write("models/mean/model.yaml", MODEL)
        self.write(".gitignore", ".edgetrain/\n")
        self.push("Start")
        self.state.mkdir()
        shutil.copy2(empty_workspace(), self.state / "mlflow.db")
        return self

    def second_clone(self, folder: Path) -> Path:
        """Another runner's checkout of the same remote, with the same state; answers its folder."""
        folder.mkdir()
        self._git("clone", "--quiet", str(self.remote), str(folder / "clone"))
        return folder

    def write(self, path: str, text: str) -> None:
        """Write a file of the clone."""
        file = self.clone / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text that must be there once."""
        text = (self.clone / path).read_text()
        assert text.count(old) == 1, (path, old)
        self.write(path, text.replace(old, new))

    def _git(self, *arguments: str) -> str:
        environment = {**os.environ, **PERSON, "GIT_CONFIG_GLOBAL": os.devnull}
        done = subprocess.run(
            ["git", *arguments], cwd=self.clone, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout

    def sync(self) -> None:
        """Bring the clone to the remote's main."""
        self._git("fetch", "--quiet", "--prune", "origin")
        self._git("checkout", "--quiet", "-B", "main", "origin/main")

    def push(self, message: str) -> None:
        """Commit all on main and push."""
        self._git("add", "--all")
        self._git("commit", "--quiet", "-m", message)
        self._git("push", "--quiet", "origin", "main")

    def sync_and_push(self, message: str) -> None:
        """Commit what was changed on top of what the machine has pushed since."""
        self._git("add", "--all")
        self._git("commit", "--quiet", "-m", message)
        self._git("pull", "--quiet", "--rebase", "origin", "main")
        self._git("push", "--quiet", "origin", "main")

    def merge_proposal(self, number: int, production: int | None = None, approver: str = "") -> None:
        """Merge the proposed version, approved by `approver`; move the channel with it if asked."""
        branch = f"edgetrain/proposal/mean-{number}"
        self.sync()
        told = ["-m", f"Merge mean@{number}", *(["-m", f"Approved-by: {approver}"] if approver else [])]
        self._git("merge", "--quiet", "--no-ff", *told, f"origin/{branch}")
        if production is not None:
            self.point(production)
            self._git("add", "--all")
            self._git("commit", "--quiet", "-m", f"Production is {production}")
        self._git("push", "--quiet", "origin", "main")
        self._git("push", "--quiet", "origin", "--delete", branch)

    def point(self, number: int) -> None:
        """Point production somewhere, in the clone."""
        text = (self.clone / "models/mean/model.yaml").read_text()
        line = next(line for line in text.splitlines() if line.startswith("  channels:"))
        self.write("models/mean/model.yaml", text.replace(line, f"  channels: {{production: {number}}}"))

    def apply(
        self,
        step: Callable[[str], None] = lambda name: None,
        stop: threading.Event | None = None,
        report: Callable[[Event], None] = lambda event: None,
        **options: object,
    ) -> ApplyResult:
        """The runner's apply, in this process."""
        chosen = Options(step=step, stop=stop or threading.Event(), **options)  # type: ignore[arg-type]
        return apply(self.clone, chosen, report)

    def die_at(self, name: str, time: int = 1) -> None:
        """An apply that ends at this step (the `time`th of that name), as if it was killed there."""
        seen = 0

        def step(reached: str) -> None:
            nonlocal seen
            seen += reached == name
            if seen == time:
                raise _Death

        try:
            self.apply(step=step)
        except _Death:
            return
        raise AssertionError(f"the apply did not come to the step {name}")

    def release(self) -> None:
        """Train, propose, merge and release: version 1 is production, and the clone is at main."""
        self.apply()
        self.merge_proposal(1, production=1)
        done = self.apply()
        assert done.good, done.results
        self.sync()

    def opened(self) -> Site:
        """The site's providers, as an apply makes them."""
        configuration: Configuration = read_tip(Git.find(self.clone), "main").desired.configuration
        return Site(configuration, next(iter(configuration.sites)), self.clone)

    def records(self) -> dict[str, dict[str, object]]:
        """Every record and version on the remote's main, by path."""
        self._git("fetch", "--quiet", "origin")
        names = self._git("ls-tree", "-r", "--name-only", "origin/main").split("\n")
        return {
            name: parse_canonical(self._git("show", f"origin/main:{name}").encode())
            for name in names
            if name.endswith(".json") and name.startswith(("experiments/", "models/"))
        }

    def branches(self) -> list[str]:
        """The remote's branches."""
        listed = self._git("ls-remote", "--heads", "origin").split("\n")
        return sorted(line.split("refs/heads/")[1] for line in listed if line)

    def commits_of(self, path: str) -> int:
        """How many commits of main touch the path."""
        return len(self._git("log", "--format=%H", "origin/main", "--", path).split())
