"""A whole reconcile when nothing changed asks Azure ML a fixed number of times, however much there is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from azureml_emulator.server import RunningEmulator
from edgetrain.core.decide import version_manifest
from edgetrain.core.kinds import Experiment
from edgetrain.core.plan import Change
from edgetrain.reconcile.state import read_work_tree
from edgetrain.repo.git import Git
from tests.apply.site import SmallSite
from tests.bench import sample
from tests.providers.azureml import support
from tests.walk import WALK_ALL

# Experiments, and how many of their models have a released version.
SIZE = (500, 200) if WALK_ALL else (60, 20)
MOST = 20


@pytest.fixture
def emulator(tmp_path: Path, surroundings: None) -> Iterator[RunningEmulator]:
    with support.begin(tmp_path / "emulator") as running:
        yield running
        support.check(running)


@pytest.fixture
def site(tmp_path: Path, emulator: RunningEmulator) -> SmallSite:
    """A small site tracked in Azure ML, its first model released."""
    made = SmallSite(tmp_path).make()
    secret = tmp_path / "client-secret"
    secret.touch(mode=0o600)
    secret.write_text(emulator.principal()["clientSecret"])
    configuration = yaml.safe_load((made.clone / "edgetrain.yaml").read_text())
    settings = support.settings(emulator, made.state)
    configuration["spec"] |= {
        "workspace": dict(settings.block),
        "secrets": {"sp": {"source": {"file": str(secret)}}},
        "proxy": {"https": emulator.proxy_url, "caBundle": str(emulator.certificates.bundle)},
    }
    made.write("edgetrain.yaml", yaml.safe_dump(configuration))
    made.push("Move to Azure ML")
    made.release()
    return made


def with_versions(site: SmallSite, count: int) -> None:
    """Merge a version of each of the first `count` models, from its run record; then let them be released."""
    state = read_work_tree(Git.find(site.clone))
    for number in range(count):
        name = f"sample-{number:05}"
        (run,) = (one for one in state.recorded.runs if one.experiment == name)
        manifest = version_manifest(run, 1, state.recorded, state.desired.models[name].metadata.owners)
        site.write(f"models/{name}/versions/1.yaml", yaml.safe_dump(json.loads(json.dumps(manifest))))
    site.push("Merge versions")
    done = site.apply()
    assert done.good, [row for row in done.results if not row.good]
    site.sync()


def test_a_reconcile_without_changes_asks_at_most_twenty_times(site: SmallSite, emulator: RunningEmulator) -> None:
    experiments, models = SIZE
    released = next(one for one in read_work_tree(Git.find(site.clone)).recorded.runs if one.experiment == "mean")

    def score(change: Change, experiment: Experiment) -> float:
        return 0.5 if int(experiment.name.removeprefix("sample-")) < models else sample.SCORE

    sample.with_experiments(site, experiments)
    sample.with_records(site, score, released.data["outputs"])
    with_versions(site, models)
    assert len(support.asked(emulator, "POST")) > models

    emulator.emulator.log.clear()
    done = site.apply()
    assert done.good and not done.plan.changes
    asked = [f"{one['method']} {one['path']}" for one in emulator.requests]
    print(f"{experiments} experiments, {models} released models: {len(asked)} requests")
    assert 0 < len(asked) <= MOST, asked
