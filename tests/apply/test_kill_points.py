"""SIGKILL at the steps of apply: the next apply brings the same end state, and nothing is there twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from edgetrain.providers.folder.artifacts import FolderArtifacts
from edgetrain.providers.oci_layout.provider import OciLayoutRegistry
from tests.apply.kept_forge import KeptSite
from tests.walk import SEED, WALK_ALL, sample

ROOT = Path(__file__).parents[2]
# More steps than either apply has; numbers past the end are a run that is not killed, which is cheap to skip.
TRAIN_STEPS, RELEASE_STEPS = 34, 32
SAMPLE = 2


def run(site: KeptSite, kill_at: int, log: Path) -> int:
    """One apply in its own process; its exit code, negative if a signal ended it."""
    command = [sys.executable, "-m", "tests.apply.killed", str(site.clone.parent), str(kill_at), str(log)]
    return subprocess.run(command, cwd=ROOT, check=False, timeout=300, capture_output=True).returncode


def end_state(site: KeptSite) -> dict[str, Any]:
    """What must be the same whatever was killed; no time, host or commit id in it."""
    records, forge = site.records(), site.again().forge
    registry = OciLayoutRegistry(root=site.state / "images")
    tags = registry.tags("mean")
    artifacts = FolderArtifacts(root=site.state / "artifacts")
    client = MlflowClient(f"sqlite:///{site.state / 'mlflow.db'}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    versions = client.search_model_versions()
    return {
        "records": sorted(records),
        "commits": {path: site.commits_of(path) for path in records},
        "outcomes": [r["outcome"] for r in records.values() if r["kind"] == "RunRecord"],
        "branches": site.branches(),
        "runs in workspace": len(client.search_runs(experiments)),
        "finished": [run.info.status for run in client.search_runs(experiments)],
        "versions in workspace": [v.tags["edgetrain.version"] for v in versions],
        "aliases": {name: str(v) for m in client.search_registered_models() for name, v in m.aliases.items()},
        "tags": sorted(name if not name.startswith("git-") else "git-" for name in tags),
        "images": len(set(tags.values())),
        "tickets": list(artifacts.claims("tickets/")),
        "owed": list(artifacts.claims("outcomes/")),
        "pull requests": [(one.branch, one.open) for one in forge.pulls.values()],
        "comments": {number: [_heading(one.body) for one in said] for number, said in forge.comments.items()},
        "artifacts": sorted(digest for digest, _ in artifacts.digests()),
        "scratch": sorted(path.name for path in (site.state / "scratch").glob("code-*")),
    }


def _heading(text: str) -> str:
    """What a comment begins with: below it stand digests of images, which name commits."""
    return "\n".join(text.splitlines()[:2])


Unharmed = tuple[dict[str, Any], dict[str, Any], list[str], list[str]]


@pytest.fixture(scope="session")
def unharmed(tmp_path_factory: pytest.TempPathFactory) -> Unharmed:
    """End states, and the steps, of the two applies when nobody kills them."""
    folder = tmp_path_factory.mktemp("unharmed")
    site = KeptSite(folder / "site").make()
    first, second = folder / "train.log", folder / "release.log"
    assert run(site, -1, first) == 0
    trained = end_state(site)
    site.again().merge_proposal(1, production=1)
    assert run(site, -1, second) == 0
    return trained, end_state(site), first.read_text().split(), second.read_text().split()


def test_the_walk_covers_every_step(unharmed: Unharmed) -> None:
    _, _, training, releasing = unharmed
    print(f"\nkill points: seed {SEED}, all {WALK_ALL}; training {training}; release {releasing}")
    assert len(training) <= TRAIN_STEPS
    assert len(releasing) <= RELEASE_STEPS
    assert {"ticket", "start", "artifacts", "track", "record", "forget", "release-ticket", "propose"} <= set(
        training
    )
    assert {"pull-request", "comment"} <= set(training)
    assert {"register", "push", "tag", "record", "alias", "channel-tag", "comment"} <= set(releasing)


@pytest.mark.parametrize("number", sample(TRAIN_STEPS, SAMPLE))
def test_killed_while_training(unharmed: Unharmed, tmp_path: Path, number: int) -> None:
    trained, _, steps, _ = unharmed
    site = KeptSite(tmp_path / "site").make()
    code = run(site, number, tmp_path / "log")
    assert code == (-signal.SIGKILL if number < len(steps) else 0), steps[number : number + 1]
    assert run(site, -1, tmp_path / "log") == 0
    assert end_state(site) == trained


@pytest.mark.parametrize("number", sample(RELEASE_STEPS, SAMPLE))
def test_killed_while_releasing(unharmed: Unharmed, tmp_path: Path, number: int) -> None:
    _, released, _, steps = unharmed
    site = KeptSite(tmp_path / "site").make()
    assert run(site, -1, tmp_path / "first") == 0
    site.again().merge_proposal(1, production=1)
    code = run(site, number, tmp_path / "log")
    assert code == (-signal.SIGKILL if number < len(steps) else 0), steps[number : number + 1]
    assert run(site, -1, tmp_path / "log") == 0
    assert end_state(site) == released
