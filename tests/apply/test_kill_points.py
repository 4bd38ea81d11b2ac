"""SIGKILL at the steps of apply: the next apply brings the same end state, and nothing is there twice."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from edgetrain.providers.folder.artifacts import FolderArtifacts
from edgetrain.providers.oci_layout.provider import OciLayoutRegistry
from tests.apply.evaluated import WARDS, EvaluatedSite
from tests.apply.kept_forge import KeptSite, serve
from tests.walk import SEED, WALK_ALL, sample

ROOT = Path(__file__).parents[2]
SAMPLE = 1


class EvaluatedKeptSite(KeptSite, EvaluatedSite):
    """A site whose model is evaluated, and whose forge outlives its process."""


@dataclass(frozen=True)
class Story:
    """What the apply that dies has to do: `begin` brings a new site up to it. `bound` is more steps than it has:
    numbers past the end are an apply that is not killed. `begun` counts the trainings and scorings in it."""

    kind: type[KeptSite]
    begin: Callable[[KeptSite], None]
    bound: int
    begun: int
    named: frozenset[str]


def as_it_is(site: KeptSite) -> None:
    """The training that the first pull request asks for."""


def merged(site: KeptSite) -> None:
    """A version is merged, and put into production."""
    assert site.apply().good
    site.merge_proposal(1, production=1)


def held_out_anew(site: KeptSite) -> None:
    """A version is in production and another is proposed, when the evaluation gets other held-out data."""
    assert isinstance(site, EvaluatedSite)
    merged(site)
    assert site.apply().good
    site.sync()
    site.shift("0.4", "0.5")
    site.edit("models/mean/model.yaml", 'slice: "*"}', 'slice: "*", tolerance: 0.75}')
    site.merge(site.request("ada/again", "Shift by 0.5, and let one ward be worse"), "grace")
    assert site.apply().good
    site.sync()
    before = site.held
    site.hold_out({**WARDS, "west.txt": "2 4\n"})
    site.edit("models/mean/model.yaml", before, site.held)
    site.merge(site.request("ada/west", "Hold out another ward"), "grace")


def asked_for_more(site: KeptSite) -> None:
    """A version is proposed, when a gate begins to ask for more than its run has."""
    assert site.apply().good
    site.sync()
    site.edit("models/mean/model.yaml", "min: 0.1", "min: 0.9")
    site.merge(site.request("ada/more", "Ask for more"), "grace")


PROPOSING = {"propose", "pull-request", "record", "commit", "push", "comment"}
SCORING = {
    "scoring-ticket",
    "score-measure",
    "score-start",
    "score-wait",
    "score-read",
    "score-examine",
    "score-log",
    "score",
    "score-forget",
    "score-release",
}
TRAINING = {"ticket", "start", "wait", "examine", "artifacts", "track", "forget", "release-ticket"}
RELEASING = {"register", "push", "tag", "record", "alias", "channel-tag", "comment"}
STORIES = {
    "training": Story(KeptSite, as_it_is, 34, 1, frozenset(TRAINING | PROPOSING)),
    "releasing": Story(KeptSite, merged, 30, 0, frozenset(RELEASING)),
    "training and scoring": Story(EvaluatedKeptSite, as_it_is, 46, 2, frozenset(TRAINING | SCORING | PROPOSING)),
    "closing": Story(KeptSite, asked_for_more, 17, 0, frozenset({"record", "push", "comment", "close"})),
    "scoring again": Story(EvaluatedKeptSite, held_out_anew, 43, 2, frozenset(SCORING | PROPOSING)),
}


def run(site: KeptSite, kill_at: int, log: Path) -> int:
    """One apply in its own process; its exit code, negative if a signal ended it."""
    command = [sys.executable, "-m", "tests.apply.killed", str(site.clone.parent), str(kill_at), str(log)]
    return subprocess.run(command, cwd=ROOT, check=False, timeout=300, capture_output=True).returncode


def end_state(site: KeptSite, log: Path) -> dict[str, Any]:
    """What must be the same whatever was killed; no time, host or commit id in it."""
    records, forge = site.records(), site.again().forge
    registry = OciLayoutRegistry(root=site.state / "images")
    tags = registry.tags("mean")
    artifacts = FolderArtifacts(root=site.state / "artifacts")
    client = MlflowClient(f"sqlite:///{site.state / 'mlflow.db'}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    versions = client.search_model_versions()
    return {
        "begun": begun(log),
        "records": sorted(records),
        "commits": {path: site.commits_of(path) for path in records},
        "outcomes": [r["outcome"] for r in records.values() if r["kind"] in ("RunRecord", "EvaluationRecord")],
        "evaluations": {path: r["evaluation"] for path, r in records.items() if "evaluation" in r},
        "branches": site.branches(),
        "proposed": proposed(site),
        "runs in workspace": len(client.search_runs(experiments)),
        "finished": [run.info.status for run in client.search_runs(experiments)],
        "versions in workspace": [v.tags["edgetrain.version"] for v in versions],
        "aliases": {name: str(v) for m in client.search_registered_models() for name, v in m.aliases.items()},
        "tags": sorted(name if not name.startswith("git-") else "git-" for name in tags),
        "images": len(set(tags.values())),
        "claims": [list(artifacts.claims(kind)) for kind in ("tickets/", "scorings/", "outcomes/", "retries/")],
        "scores": list(artifacts.claims("scores/")),
        "logs": sorted(path.name for path in (site.state / "logs").iterdir()),
        "pull requests": [(one.branch, one.open) for one in forge.pulls.values()],
        "comments": {number: [_heading(one.body) for one in said] for number, said in forge.comments.items()},
        "artifacts": sorted(digest for digest, _ in artifacts.digests()),
        "scratch": sorted(path.name for path in (site.state / "scratch").glob("code-*")),
        "models being scored": sorted(path.name for path in (site.state / "scoring").glob("*")),
    }


def begun(log: Path) -> list[str]:
    """Everything that was set going on a target, in all the applies of this log."""
    told = log.with_suffix(".told").read_text().splitlines()
    return [line for line in told if line.startswith(("Starting ", "Evaluating "))]


def proposed(site: KeptSite) -> dict[str, Any]:
    """What each open proposal says that its run was judged by: nothing that names a commit or a time."""
    found = {}
    for branch in site.branches():
        if branch.startswith("edgetrain/"):
            model, _, number = branch.removeprefix("edgetrain/proposal/").rpartition("-")
            text = site._git("show", f"origin/{branch}:models/{model}/versions/{number}.yaml")
            spec = yaml.safe_load(text)["spec"]
            found[branch] = {key: spec.get(key) for key in ("metrics", "evaluation", "selfReported")}
    return found


def _heading(text: str) -> str:
    """What a comment begins with: below it stand digests of images, which name commits."""
    return "\n".join(text.splitlines()[:2])


class Stage:
    """The site of a story, kept as it was before the apply, so that each death begins from the same."""

    def __init__(self, folder: Path, story: Story) -> None:
        self._place, self._kept = folder / "site", folder / "kept"
        self._kind = story.kind
        site = story.kind(self._place)
        restore = serve(site)
        try:
            site.make()
            story.begin(site)
            site.forge.keep()
        finally:
            restore()
        shutil.copytree(self._place, self._kept, symlinks=True)
        self.log = folder / "log"
        assert run(site, -1, self.log) == 0
        self.end, self.steps = end_state(site, self.log), self.log.read_text().split()

    def again(self) -> KeptSite:
        """The site as it was, in the same place."""
        shutil.rmtree(self._place)
        shutil.copytree(self._kept, self._place, symlinks=True)
        for log in (self.log, self.log.with_suffix(".told")):
            log.unlink(missing_ok=True)
        return self._kind(self._place)


_stages: dict[str, Stage] = {}


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The stage of the story that the test names; set up once."""
    name = request.param
    if name not in _stages:
        _stages[name] = Stage(tmp_path_factory.mktemp("stage"), STORIES[name])
        print(f"\nkill points: seed {SEED}, all {WALK_ALL}; {name}: {_stages[name].steps}")
    return _stages[name]


def of(name: str, *more: object) -> Any:
    """The tests of a story keep to one worker, for they share its place."""
    return pytest.param(name, *more, marks=pytest.mark.xdist_group(f"kill points: {name}"))


@pytest.mark.parametrize("stage", [of(name) for name in STORIES], indirect=True)
def test_the_walk_covers_every_step(request: pytest.FixtureRequest, stage: Stage) -> None:
    story = STORIES[request.node.callspec.params["stage"]]
    assert story.named <= set(stage.steps)
    assert len(stage.steps) <= story.bound
    assert stage.end["claims"] == [[]] * 4
    assert len(stage.end["begun"]) == len(set(stage.end["begun"])) == story.begun


@pytest.mark.parametrize(
    ("stage", "number"),
    [of(name, number) for name, story in STORIES.items() for number in sample(story.bound, SAMPLE)],
    indirect=["stage"],
)
def test_killed(stage: Stage, number: int) -> None:
    site = stage.again()
    code = run(site, number, stage.log)
    assert code == (-signal.SIGKILL if number < len(stage.steps) else 0), stage.steps[number : number + 1]
    assert run(site, -1, stage.log) == 0
    assert end_state(site, stage.log) == stage.end
