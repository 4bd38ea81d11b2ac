"""A random walk of what people, runners and power cuts do to a small site, by one seed."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edgetrain.core.errors import UsageError
from edgetrain.core.problem import Severity
from edgetrain.reconcile.collect import collect
from edgetrain.reconcile.runs import retry
from edgetrain.reconcile.validate import validate
from tests.apply.site import EXPERIMENT, MODEL, SCRIPT, SmallSite

ROOT = Path(__file__).parents[2]
MODELS = ("mean", "median")
# With this shift the script fails.
BAD = 0.9
SHIFTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, BAD)
MOST_STEPS = 70


class Walk:
    """Its steps are methods without arguments; `asked` counts retries by `<experiment>-<identity12>`."""

    def __init__(self, site: SmallSite, dice: random.Random) -> None:
        self.site = site
        self.dice = dice
        self.asked: Counter[str] = Counter()
        self.done: list[str] = []
        failing = f"if options.shift == {BAD}: raise SystemExit(1)\nout ="
        for model in MODELS:
            site.write(f"experiments/{model}/experiment.yaml", EXPERIMENT.replace("mean", model))
            site.write(f"experiments/{model}/train.py", SCRIPT.replace("out =", failing, 1))
            site.write(f"models/{model}/model.yaml", MODEL.replace("mean", model))
        site.push("Begin")

    def step(self) -> None:
        """One step of any kind, and often an apply after it."""
        steps: dict[Callable[[], None], int] = {
            self.tune: 5,
            self.merge: 5,
            self.point: 3,
            self.kill: 5,
            self.apply: 3,
            self.revert: 2,
            self.gate: 1,
            self.withdraw: 1,
            self.close: 1,
            self.retry: 2,
            self.gc: 2,
        }
        (chosen,) = self.dice.choices(list(steps), list(steps.values()))
        self.site.sync()
        self.done.append(chosen.__name__)
        chosen()

    # What people do

    def tune(self) -> None:
        """Another value of the parameter, perhaps one that was trained with before."""
        path = f"experiments/{self.dice.choice(MODELS)}/experiment.yaml"
        text = (self.site.clone / path).read_text()
        self.site.write(path, re.sub(r"shift: [0-9.]+", f"shift: {self.dice.choice(SHIFTS)}", text))
        self._merge_if_valid("Tune")

    def gate(self) -> None:
        """Another bound: what is stored is judged again."""
        path = f"models/{self.dice.choice(MODELS)}/model.yaml"
        text = (self.site.clone / path).read_text()
        self.site.write(path, re.sub(r"min: [0-9.]+", f"min: {self.dice.choice((0.1, 0.45, 0.65))}", text))
        self._merge_if_valid("Move a gate")

    def merge(self) -> None:
        """Merge a proposal, and perhaps put it into production at once."""
        branches = [name for name in self.site.branches() if name.startswith("edgetrain/proposal/")]
        if not branches:
            return
        branch = self.dice.choice(branches)
        if self._try("merge", "--quiet", "--no-ff", "-m", f"Merge {branch}", f"origin/{branch}"):
            if self.dice.random() < 0.5:
                model, _, number = branch.removeprefix("edgetrain/proposal/").rpartition("-")
                self._point(model, int(number))
                self.site._git("commit", "--quiet", "--all", "-m", f"Production of {model} is {number}")
            if self._valid():
                self.site._git("push", "--quiet", "origin", "main")
                self._try("push", "--quiet", "origin", "--delete", branch)

    def point(self) -> None:
        """Move a channel to any version."""
        if (chosen := self._version()) is not None:
            self._point(*chosen)
            self._merge_if_valid("Point")

    def withdraw(self) -> None:
        """Withdraw a version; refused, as people are, while a channel holds it."""
        if (chosen := self._version()) is not None:
            model, number = chosen
            path = f"models/{model}/model.yaml"
            text = (self.site.clone / path).read_text()
            if "withdrawn:" not in text:
                self.site.write(path, text.rstrip("\n") + f'\n  withdrawn: {{{number}: "wrong labels"}}\n')
                self._merge_if_valid("Withdraw")

    def revert(self) -> None:
        """Take back one of the last changes of people, if it can be taken back."""
        log = self.site._git("log", "--no-merges", "--format=%H %ce", "-n", "30", "origin/main").splitlines()
        people = [line.split()[0] for line in log if line.endswith("dana@example.org")]
        if people and self._try("revert", "--no-edit", self.dice.choice(people)) and self._valid():
            self.site._git("push", "--quiet", "origin", "main")

    def close(self) -> None:
        """Refuse a proposal."""
        branches = [name for name in self.site.branches() if name.startswith("edgetrain/proposal/")]
        if branches:
            self._try("push", "--quiet", "origin", "--delete", self.dice.choice(branches))

    def retry(self) -> None:
        """Ask for another attempt of any run, wanted or not."""
        runs = [path for path in self.site.records() if "/runs/" in path and ".evaluation-" not in path]
        if runs:
            _, experiment, _, name = self.dice.choice(sorted(runs)).split("/")
            run = f"{experiment}-{name.removesuffix('.json')}"
            for key, value in (("user.name", "Dana"), ("user.email", "dana@example.org")):
                self.site._git("config", key, value)
            try:
                retry(self.site.clone, run, "try it again")
            except UsageError:
                return  # not the last attempt, not wanted any more, or asked for already
            self.asked[run.rpartition("-")[0]] += 1

    # What the site does

    def apply(self) -> None:
        """An apply that nothing harms."""
        self.site.apply()

    def kill(self) -> None:
        """An apply that ends by SIGKILL at one of its steps, or comes to its end before."""
        number = self.dice.randrange(MOST_STEPS)
        command = [sys.executable, "-m", "tests.apply.killed", str(self.site.clone.parent), str(number)]
        log = self.site.clone.parent / "steps.log"
        done = subprocess.run([*command, str(log)], cwd=ROOT, check=False, capture_output=True, timeout=300)
        assert done.returncode in (0, 3, -signal.SIGKILL), done.stderr.decode()

    def gc(self) -> None:
        """Collect what nothing names, however young."""
        collect(self.site.clone, None, 0, True, datetime.now(UTC) + timedelta(days=1))

    def settle(self) -> None:
        """Apply until nothing is left to do."""
        for _ in range(6):
            done = self.site.apply()
            if not done.results:
                return
        raise AssertionError(list(done.results))

    # How

    def _version(self) -> tuple[str, int] | None:
        found = sorted((self.site.clone / "models").glob("*/versions/*.yaml"))
        if not found:
            return None
        chosen = self.dice.choice(found)
        return chosen.parts[-3], int(chosen.stem)

    def _point(self, model: str, number: int) -> None:
        path = f"models/{model}/model.yaml"
        text = (self.site.clone / path).read_text()
        self.site.write(path, re.sub(r"channels: \{.*\}", f"channels: {{production: {number}}}", text))

    def _merge_if_valid(self, message: str) -> None:
        self.site._git("add", "--all")
        if self._try("commit", "--quiet", "-m", message) and self._valid():
            self.site._git("push", "--quiet", "origin", "main")

    def _valid(self) -> bool:
        """What is committed may be merged: as the check of a pull request says."""
        found = validate(self.site.clone)
        return not [one for one in found if one.severity is Severity.PROBLEM]

    def _try(self, *command: str) -> bool:
        """Whether git could; what it left half done is taken away."""
        try:
            self.site._git(*command)
        except subprocess.CalledProcessError:
            self.site._git("reset", "--quiet", "--hard", "origin/main")
            return False
        return True
