"""A small repository and its world as plain values: people's edits, and what an apply would make of a plan.

Nothing here touches a disk: the effects of each change are what `reconcile` leaves behind, told to records and to
the next observation. So thousands of histories can be walked to ask what must hold in all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any
from unittest.mock import patch

from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_of
from edgetrain.core.gate import gates_digest
from edgetrain.core.identity import identity
from edgetrain.core.kinds import Manifest
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Change, Operation, Plan
from edgetrain.core.planner import build as build_plan
from edgetrain.core.planner.releases import registration_digest, registration_tags
from edgetrain.core.ports import DataDigest, EgressLevel, TargetStatus, WorkspaceModel, WorkspaceVersion
from edgetrain.core.record import Outcome, Record, ReleaseRecord, RunRecord, run_id, run_path
from edgetrain.core.recorded import Recorded
from tests.core import build

READY = TargetStatus(True, EgressLevel.ENFORCED, "3.11", "linux/amd64")
Choose = Callable[[list[Any]], Any]

EXPERIMENT = """\
apiVersion: edgetrain/v1
kind: Experiment
metadata: {{name: {name}, retired: {retired}}}
spec:
  model: {model}
  compute: runner
  command: python train.py --data ${{{{inputs.table}}}} --shift ${{{{inputs.shift}}}}
  inputs:
    table: {{type: uri_folder, datastore: store, path: table/, digest: {digest}}}
{how}
  outputs:
    model: {{type: custom_model, path: model.json}}
  metrics: [score]
  limits: {{timeout: 2m, retries: {retries}}}
"""
ALONE = "    shift: {shifts[0]}"
SWEEP = """\
  objective: {{goal: maximize, primaryMetric: score}}
  samplingAlgorithm: {{type: grid}}
  searchSpace:
    shift: {{type: choice, values: {shifts}}}"""
MODEL = """\
apiVersion: edgetrain/v1
kind: Model
metadata: {{name: {name}}}
spec:
  gates:
    - {{metric: score, goal: maximize, min: {least}}}
  release: {release}
  channels: {channels}
  withdrawn: {withdrawn}
"""
SHIFTS = [0.125, 0.25, 0.5, 0.75]


@cache
def _manifest(path: str, text: str) -> Manifest:
    return _REAL(path, text)


_REAL = build.manifest


@dataclass
class Simulation:
    """The state of everything. `choose` takes one of several: the walk is its."""

    choose: Choose
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    observed: Observation = field(default_factory=lambda: Observation(targets={"runner": READY, "gpu": READY}))
    trained: list[tuple[str, str, int]] = field(default_factory=list)

    def files(self) -> dict[str, str]:
        """The manifests."""
        kept = ("edgetrain.yaml", "compute/runner.yaml", "compute/gpu.yaml")
        found = {path: build.FILES[path] for path in kept}
        for name, facts in self.experiments.items():
            how = (SWEEP if facts["sweep"] else ALONE).format(**facts)
            found[f"experiments/{name}/experiment.yaml"] = EXPERIMENT.format(name=name, how=how, **facts)
        for name, facts in self.models.items():
            found[f"models/{name}/model.yaml"] = MODEL.format(name=name, **facts)
        return found | self.versions

    def desired(self, order: Callable[[list[str]], list[str]] = sorted) -> Desired:
        """What the manifests want, read in this order."""
        files = self.files()
        with patch.object(build, "manifest", _manifest):
            return build.desired({path: files[path] for path in order(list(files))})

    def plan(self, *, offline: bool = False) -> Plan:
        """The refreshed plan, or the offline one."""
        observed = None if offline else self.observed
        return build_plan(self.desired(), Recorded.of(self.records), build.SERVED, observed)

    def apply(self, rounds: int = 8) -> None:
        """Plan and do, until nothing is left."""
        for _ in range(rounds):
            plan = self.plan()
            due = [change for change in plan.changes if not change.conditional]
            if not due:
                return
            for change in due:
                self.do(change)
        raise AssertionError([change.id for change in self.plan().changes])

    # --- what people and the world do ----------------------------------------------------------------

    def edit(self) -> None:
        """One step of somebody: a merged pull request, or something that happened outside."""
        people = [self.change_experiment, self.change_model, self.merge, self.close, self.retry]
        steps = [*people, self.lose, self.new_data, self.start, self.start_and_change]
        self.choose(steps)()

    def change_experiment(self) -> None:
        facts = self.experiments[self.choose(sorted(self.experiments))]
        key = self.choose(["shifts", "retired", "retries", "digest", "sweep"])
        values = {
            "shifts": [SHIFTS[at : at + size] for at in (0, 1, 2) for size in (1, 2)],
            "retired": ["true", "false"],
            "retries": [0, 1, 2],
            "digest": ["latest", f'"{build.DATA}"', f'"{self.data()}"'],
            "sweep": [True, False],
        }
        facts[key] = self.choose(values[key])

    def change_model(self) -> None:
        name = self.choose(sorted(self.models))
        facts, numbers = self.models[name], self.numbers(name)
        key = self.choose(["least", "release", "channels", "withdrawn"])
        if key == "least":
            facts["least"] = self.choose([0.1, 0.5, 0.9])
        elif key == "release":
            facts["release"] = self.choose(["review", "automatic"])
        elif key == "withdrawn" and numbers:
            gone = self.choose(numbers)
            pointed = {number for number in facts["channels"].values() if number == gone}
            if not pointed:  # validate refuses a channel to what is withdrawn
                facts["withdrawn"] = {**facts["withdrawn"], gone: "wrong"}
        elif key == "channels":
            free = [number for number in numbers if number not in facts["withdrawn"]]
            named = [channel for channel in ("production", "staging") if free and self.choose([True, False])]
            facts["channels"] = {channel: self.choose(free) for channel in named}

    def merge(self) -> None:
        """An open proposal is merged."""
        recorded = Recorded.of(self.records)
        for branch, digest in sorted(self.observed.proposals.items()):
            run = recorded.run(digest)
            assert run is not None
            number = int(branch.rpartition("-")[2])
            if number == len(self.numbers(run.model)) + 1:
                self.add_version(run, number)
            self.drop(branch)
            return

    def close(self) -> None:
        """An open proposal is closed: it stays closed."""
        for branch in sorted(self.observed.proposals):
            self.drop(branch)
            return

    def lose(self) -> None:
        """Images, tags or the workspace's entries are gone, or somebody moved them."""
        what = self.choose(["images", "tags", "workspace", "moved"])
        if what == "images":
            self.see(images=frozenset())
        elif what == "moved":
            self.see(tags={place: dict.fromkeys(tags, "sha256:0") for place, tags in self.observed.tags.items()})
        else:
            self.see(**{what: {}})

    def new_data(self) -> None:
        self.see(data={("store", "table/"): DataDigest(self.choose([build.DATA, build.OTHER_DATA]), 1, 6)})

    def retry(self) -> None:
        """Somebody asks for the next attempt of a run."""
        if self.records:
            runs = Recorded.of(self.records).runs
            run = self.choose(list(runs))
            self.see(retries={run_id(run.experiment, run.identity, run.attempt + 1): {"reason": "again"}})

    def start(self) -> None:
        """An apply that ended when its run had been started."""
        for change in self.plan().changes:
            if change.operation is Operation.TRAIN:
                subject = change.subject
                name = run_id(subject["experiment"], subject["identity"], subject["attempt"])
                facts = {key: subject[key] for key in ("experiment", "identity", "identityOf", "attempt", "trial")}
                self.see(tickets={**self.observed.tickets, name: {**facts, "site": "here"}})

    def start_and_change(self) -> None:
        """So that what runs may not be wanted any more."""
        self.change_experiment()
        self.start()
        self.change_experiment()
        self.new_data()

    # --- what an apply does --------------------------------------------------------------------------

    def do(self, change: Change) -> None:
        """The effect of one change."""
        subject = change.subject
        if change.operation in (Operation.TRAIN, Operation.ADOPT, Operation.CANCEL):
            self.train(change)
        elif change.operation is Operation.EVALUATE:
            self.judge(change)
        elif change.operation is Operation.PROPOSE:
            run = Recorded.of(self.records).run(subject["record"])
            assert run is not None
            if subject["release"] == "automatic":
                self.add_version(run, subject["version"])
            else:
                self.see(proposals={**self.observed.proposals, subject["branch"]: run.digest})
            self.add(build.proposal(run, subject["version"], self.next()))
        elif change.operation is Operation.CLOSE:
            self.drop(subject["branch"])
        else:
            self.release(change)

    def train(self, change: Change) -> None:
        """A run, from its ticket to its record: whatever becomes of it."""
        subject = change.subject
        name = subject.get("run") or run_id(subject["experiment"], subject["identity"], subject["attempt"])
        if change.operation is not Operation.TRAIN:
            subject = {**subject, **self.observed.tickets[name]}
        key = (subject["experiment"], subject["identity"], subject["attempt"])
        assert key not in self.trained, f"{change.id} is trained twice"
        self.trained.append(key)
        metrics = {"score": self.choose([0.2, 0.6, 0.95])}
        data = build.run_data(self.desired(), subject["experiment"], subject["trial"], metrics=metrics)
        of = copy.deepcopy(dict(subject["identityOf"]))
        assert identity(of) == subject["identity"]
        for name, digest in of["inputs"].items():
            data["inputs"][name]["digest"] = digest
        data |= {
            "identity": subject["identity"],
            "identityOf": of,
            "attempt": subject["attempt"],
            "parameters": of["parameters"],
            "outcome": "cancelled",
        }
        if change.operation is not Operation.CANCEL:
            data["outcome"] = self.choose(["candidate", *sorted(Outcome)])
        path = run_path(data["experiment"], data["identity"], data["attempt"])
        self.add(build.record_of(path, data, self.next()))
        self.see(tickets={other: ticket for other, ticket in self.observed.tickets.items() if other != name})

    def judge(self, change: Change) -> None:
        recorded = Recorded.of(self.records)
        run = recorded.run(change.subject["record"])
        assert run is not None
        last = recorded.evaluation(run)
        number = int(last.data["number"]) + 1 if last else 1
        outcome = self.choose(["candidate", "not_better"])
        digest = gates_digest(self.desired().models[run.model].gates)
        self.add(build.evaluation(run, outcome, digest, number, self.next()))

    def release(self, change: Change) -> None:
        """Registration, image, tags, records, channels and withdrawals."""
        subject, operation = change.subject, change.operation
        name, recorded = subject["model"], Recorded.of(self.records)
        if operation is Operation.MOVE:
            self.move(subject, recorded)
            return
        version = self.desired().versions[name, subject["version"]]
        released = recorded.release(name, version.number)
        place, digest = ("local", name), digest_of(version.number)
        if operation in (Operation.REGISTER, Operation.RELEASE):
            self.register(version.model, version.number, digest if operation is Operation.RELEASE else "", released)
        if operation is Operation.PUSH:
            self.see(images=self.observed.images | {(*place, digest)})
        elif operation is Operation.TAG:
            tags = {subject["tag"]: subject["digest"]} if "tag" in subject else {str(version.number): digest}
            self.see(tags={**self.observed.tags, place: {**self.observed.tags.get(place, {}), **tags}})
        elif operation is Operation.RELEASE:
            run = recorded.run(version.record)
            assert run is not None
            self.add(build.released(run, version.number, self.k(name, version.number), self.next()))
            self.drop(f"edgetrain/proposal/{name}-{version.number}")
        elif operation is Operation.WITHDRAW:
            made = build.withdrawal(name, version.number, self.k(name, version.number))
            self.add(replace(made, ordinal=self.next()))

    def register(self, model: str, number: int, image: str, released: ReleaseRecord | None) -> None:
        version = self.desired().versions[model, number]
        image = image or (released.data["image"]["digest"] if released else "")
        tags = registration_tags(version, image)
        tags |= {"edgetrain.version": str(number), "edgetrain.digest": registration_digest(version)}
        seen = self.observed.workspace.get(model, WorkspaceModel())
        seen = replace(seen, versions={**seen.versions, number: WorkspaceVersion(str(number), tags)})
        self.see(workspace={**self.observed.workspace, model: seen})

    def move(self, subject: Any, recorded: Recorded) -> None:
        model, channel, old, new = (subject[key] for key in ("model", "channel", "from", "to"))
        seen = self.observed.workspace.get(model, WorkspaceModel())
        aliases = {name: number for name, number in seen.channels.items() if name != channel}
        place = ("local", model)
        tags = {name: digest for name, digest in self.observed.tags.get(place, {}).items() if name != channel}
        if new is not None:
            release = recorded.release(model, new)
            assert release is not None, f"{channel} points to {model}@{new}, which is not released"
            aliases[channel], tags[channel] = new, release.data["image"]["digest"]
        self.see(workspace={**self.observed.workspace, model: replace(seen, channels=aliases)})
        self.see(tags={**self.observed.tags, place: tags})
        if recorded.channels(model).get(channel) != new:
            number = self.k(model, new if new is not None else old)
            head = recorded.channel_head(model, channel)
            self.add(replace(build.moved(model, channel, old, new, number, head), ordinal=self.next()))

    # --- small things --------------------------------------------------------------------------------

    def see(self, **seen: Any) -> None:
        self.observed = replace(self.observed, **seen)

    def add(self, record: Record) -> None:
        assert record.path not in {other.path for other in self.records}, f"{record.path} is written twice"
        self.records.append(record)

    def next(self) -> int:
        return len(self.records) + 1

    def k(self, model: str, version: int) -> int:
        return Recorded.of(self.records).next_release_number(model, version)

    def data(self) -> str:
        return self.observed.data["store", "table/"].digest

    def numbers(self, model: str) -> list[int]:
        return [int(p.split("/")[3][:-5]) for p in sorted(self.versions) if p.split("/")[1] == model]

    def add_version(self, run: RunRecord, number: int) -> None:
        text = build.version_text(run, number, Recorded.of(self.records))
        self.versions[f"models/{run.model}/versions/{number}.yaml"] = text

    def drop(self, branch: str) -> None:
        self.see(proposals={name: run for name, run in self.observed.proposals.items() if name != branch})


def begin(choose: Choose) -> Simulation:
    """A small repository: up to three experiments for up to two models, alone or sweeps."""
    made = Simulation(choose)
    made.new_data()
    for name in ("first", "second")[: choose([1, 2])]:
        release = choose(["review", "automatic"])
        made.models[name] = {"least": 0.1, "release": release, "channels": {}, "withdrawn": {}}
    for name in ("one", "two", "three")[: choose([1, 2, 3])]:
        made.experiments[name] = {
            "model": choose(sorted(made.models)),
            "shifts": choose([[0.5], [0.25, 0.5]]),
            "sweep": choose([False, True]),
            "retired": "false",
            "retries": choose([0, 1]),
            "digest": "latest",
        }
    return made
