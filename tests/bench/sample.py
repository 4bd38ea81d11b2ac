"""Repositories to measure on: a small real site, and beside its experiment as many more as asked for."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from itertools import count, cycle
from types import SimpleNamespace
from typing import Any, cast

from edgetrain.core.decide import decide
from edgetrain.core.digest import digest_bytes
from edgetrain.core.egress import code_json
from edgetrain.core.kinds import Experiment
from edgetrain.core.plan import Change, Operation
from edgetrain.core.ports import DataDigest, RunPhase, RunState
from edgetrain.core.record import Outcome, RunRecord, parse_record, run_path, serialise
from edgetrain.reconcile.context import Context
from edgetrain.reconcile.facts import ticket
from edgetrain.reconcile.finish import Kept, run_record
from edgetrain.reconcile.planning import make_plan
from edgetrain.reconcile.proposing import manifest_bytes
from edgetrain.reconcile.state import State, read_commit, read_work_tree
from edgetrain.repo.git import Git
from tests.apply.site import EXPERIMENT, MODEL, SCRIPT, SmallSite
from tests.bench.runner import EDGETRAIN, environment

BEGAN, ENDED = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
SCORE = 0.05  # less than the model's gate demands: nothing follows from such a run


def with_experiments(site: SmallSite, count: int, model: str | None = None) -> None:
    """Add experiments, each with its script, its data and its model (or all for one `model`), and push them."""
    for number in range(count):
        name = f"sample-{number:05}"
        (site.data / name).mkdir()
        (site.data / name / "numbers.txt").write_text(f"{number}\n")
        text = EXPERIMENT.replace("mean", name).replace("path: table/", f"path: {name}/")
        if model is not None:
            text = text.replace(f"model: {name}", f"model: {model}")
        site.write(f"experiments/{name}/experiment.yaml", text)
        site.write(f"experiments/{name}/train.py", SCRIPT)
        if model is None:
            site.write(f"models/{name}/model.yaml", MODEL.replace("mean", name))
    site.push("Add samples")


def pack(site: SmallSite) -> None:
    """Put all objects of the clone into one pack, as a clone from a forge has them."""
    subprocess.run(["git", "repack", "-a", "-d", "--quiet"], cwd=site.clone, env=environment(), check=True)


def forget(site: SmallSite) -> None:
    """Remove what edgetrain remembers of this checkout."""
    for file in (site.clone / ".git").glob("edgetrain-*.*"):
        file.unlink()


def with_versions(site: SmallSite, model: str) -> None:
    """A version for each candidate of the model, each by a commit of its own, as merges by squash leave them."""
    state = read_commit(Git.find(site.clone), "HEAD")
    runs = [run for run in state.recorded.runs if run.model == model and run.outcome is Outcome.CANDIDATE]
    context = cast(Context, SimpleNamespace(state=state))
    stream = bytearray()
    for number, run in enumerate(runs, 1):
        data, path = manifest_bytes(context, run, number), f"models/{model}/versions/{number}.yaml"
        when = 1767225600 + number
        stream += (
            b"commit refs/heads/main\ncommitter Dana <dana@example.org> %d +0000\ndata 11\nAdd version\n" % when
        )
        stream += b"from refs/heads/main^0\n" if number == 1 else b""
        stream += b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(data), data)
    for line, given in (
        (["fast-import", "--quiet"], bytes(stream)),
        (["reset", "--quiet", "--hard", "main"], b""),
        (["push", "--quiet", "origin", "main"], b""),
    ):
        subprocess.run(["git", *line], cwd=site.clone, env=environment(), input=given, check=True)
    subprocess.run(
        [EDGETRAIN, "validate"], cwd=site.clone, env=environment(), stdout=subprocess.DEVNULL, check=True
    )


Score = Callable[[Change, Experiment], float]


def with_records(
    site: SmallSite,
    score: Score = lambda change, experiment: SCORE,
    outputs: Mapping[str, Any] | None = None,
) -> None:
    """A record for each run that the plan wants, written as apply would, in one commit. Nothing is to do then,
    unless a run's `score` makes it a candidate; such a one has these `outputs`."""
    state = read_work_tree(Git.find(site.clone))
    for change in make_plan(site.clone, refresh=True).changes:
        if change.operation is Operation.TRAIN:
            experiment = state.desired.experiments[change.subject["experiment"]]
            path = run_path(experiment.name, change.subject["identity"], change.subject["attempt"])
            record = _record(state, change, experiment, score(change, experiment), outputs or {})
            site.write(path, serialise(record).decode())
    machine = state.desired.configuration.machine
    person = ["-c", f"user.name={machine.name}", "-c", f"user.email={machine.email}"]
    for line in (
        ["add", "."],
        [*person, "commit", "--quiet", "-m", "Record samples"],
        ["push", "--quiet", "origin", "main"],
    ):
        subprocess.run(["git", *line], cwd=site.clone, env=environment(), check=True)
    if outputs is None:
        check = [EDGETRAIN, "plan", "--refresh", "--exit-code"]
        subprocess.run(check, cwd=site.clone, env=environment(), stdout=subprocess.DEVNULL, check=True)


def editing(site: SmallSite) -> Callable[[], None]:
    """What edits one manifest each time; it asks for no other run."""
    file = site.clone / "experiments" / "sample-00000" / "experiment.yaml"
    limits = cycle(["3m", "2m"])

    def edit() -> None:
        file.write_text(re.sub(r"timeout: \dm", f"timeout: {next(limits)}", file.read_text()))

    return edit


def merging(site: SmallSite, model: str | None = None) -> Callable[[], None]:
    """What merges one more attempt of a recorded run each time, and with `model` a version that cites it."""
    state = read_commit(Git.find(site.clone), "HEAD")
    machine, context = state.desired.configuration.machine, cast(Context, SimpleNamespace(state=state))
    last = max(state.recorded.runs_of("sample-00000"), key=lambda run: run.attempt)
    attempts = count(last.attempt + 1)
    numbers = count(state.desired.latest_version(model) + 1 if model else 1)
    person = ["-c", f"user.name={machine.name}", "-c", f"user.email={machine.email}"]

    def merge() -> None:
        path = run_path(last.experiment, last.identity, attempt := next(attempts))
        data = serialise({**last.data, "attempt": attempt})
        site.write(path, data.decode())
        _sh(site, "add", path)
        _sh(site, *person, "commit", "--quiet", "-m", "Record sample", "--", path)
        if model is not None:
            number = next(numbers)
            version = manifest_bytes(context, cast(RunRecord, parse_record(path, data)), number)
            site.write(f"models/{model}/versions/{number}.yaml", version.decode())
            _sh(site, "add", "models")
            _sh(site, "commit", "--quiet", "-m", "Add version", "--", "models")
        _sh(site, "push", "--quiet", "origin", "main")

    return merge


def _sh(site: SmallSite, *line: str) -> None:
    subprocess.run(["git", *line], cwd=site.clone, env=environment(), check=True)


def _record(
    state: State, change: Change, experiment: Experiment, score: float, outputs: Mapping[str, Any]
) -> dict[str, object]:
    inputs = {name: str(digest) for name, digest in change.subject["identityOf"]["inputs"].items()}
    target = state.desired.targets["runner"]
    data = {name: DataDigest(digest, 1, 6) for name, digest in inputs.items()}
    code = code_json(state.desired.snapshots[experiment.name])
    commit = Git.find(state.git.root).head()
    manifest = digest_bytes(state.tree.read(experiment.document.path))
    facts = ticket(change, experiment, target, data, commit, {}, manifest, code) | {"staged": []}
    metrics = {"score": score}
    model = state.desired.models[experiment.model]
    decision = decide(state.desired, state.recorded, model, experiment, str(facts["identity"]), metrics, inputs)
    end = RunState(RunPhase.ENDED, 0, "exit", started=BEGAN, ended=ENDED)
    left = outputs if decision.outcome is Outcome.CANDIDATE else {}
    files = [file for output in left.values() for file in output["files"]]
    kept = Kept(outputs=left, metrics=metrics, files=len(files), bytes=sum(file["size"] for file in files))
    return run_record(facts, end, decision, kept, {})
