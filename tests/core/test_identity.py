"""Identity: what makes two runs the same run, and what must not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetrain.core.identity import fields, identity, known, matches
from edgetrain.core.kinds import Experiment
from tests.core import build

PATH = "experiments/mean/experiment.yaml"


def identity_of(text: str = build.FILES[PATH], trial: dict[str, Any] | None = None, **parts: Any) -> str:
    """The identity of the experiment in this manifest."""
    experiment = build.manifest(PATH, text)
    assert isinstance(experiment, Experiment)
    given_parts = {
        "code": "sha256:code",
        "requirements": "sha256:lock",
        "inputs": dict.fromkeys(experiment.data, build.DATA),
        "python": "3.11",
        "platform": "linux/amd64",
        **parts,
    }
    return identity(fields(experiment, trial or {}, **given_parts))


def edited(old: str, new: str) -> str:
    return build.edited(PATH, old, new)[PATH]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("compute: runner", "compute: gpu"),
        ("compute: runner", "compute: {selector: {gpu: a100}}"),
        ("timeout: 2m", "timeout: 9h"),
        ("retries: 1", "retries: 5"),
        ("  seed: 1", "  seed: 1\n  resources: {gpus: 1, shmSize: 8Gi}"),
        ("metadata: {name: mean,", "metadata: {name: mean, description: Other words., labels: {a: b},"),
        ('owners: ["@example/ds"]', 'owners: ["@example/other"]'),
        ("maxSize: 1Mi", "maxSize: 2Mi"),
        ("metrics: [score]", "metrics: [score, other]"),
        ("  model: mean\n", "  model: another\n"),
        ("datastore: store, path: table/", "datastore: elsewhere, path: moved/"),
        ("digest: latest", "digest: latest, onChange: train"),
    ],
)
def test_what_must_not_change_it(old: str, new: str) -> None:
    assert identity_of(edited(old, new)) == identity_of()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: mean,", "name: median,"),
        ("python train.py", "python3 train.py"),
        ("shift: 0.5", "shift: 0.25"),
        ("  seed: 1", "  seed: 2"),
        ("  seed: 1\n", ""),
        ("path: model.json", "path: other.json"),
        ("  outputs:", "  outputs:\n    extra: {type: custom_model, path: extra}"),
        ("{requirements:", f'{{image: "base@{build.DATA}", requirements:'),
    ],
)
def test_what_must_change_it(old: str, new: str) -> None:
    assert identity_of(edited(old, new)) != identity_of()


@pytest.mark.parametrize(
    "part",
    [
        {"code": "sha256:other"},
        {"requirements": None},
        {"inputs": {"table": build.OTHER_DATA}},
        {"inputs": {"renamed": build.DATA}},
        {"python": "3.12"},
        {"platform": "linux/arm64"},
        {"trial": {"shift": 0.75}},
    ],
)
def test_what_is_observed_changes_it(part: dict[str, Any]) -> None:
    assert identity_of(**part) != identity_of()


def test_version_one_is_the_same_for_ever() -> None:
    """A changed value here would train every experiment of every repository again."""
    assert identity_of() == "sha256:8f1f8b4fd41108e14a30a1d744bc934ccddf26e4d5bf74cc16942f709cd435ec"


def test_a_trial_equals_the_same_run_made_alone() -> None:
    assert identity_of(trial={"shift": 0.75}) == identity_of(edited("shift: 0.5", "shift: 0.75"))


def test_unknown_parts_have_no_identity() -> None:
    with pytest.raises(ValueError, match="not known"):
        identity_of(python=None)
    with pytest.raises(ValueError, match="not known"):
        identity_of(inputs={"table": None})


json_values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5)


@given(st.dictionaries(st.sampled_from(["python", "platform", "seed", "code"]), json_values))
def test_open_python_and_platform_match_any_record(extra: dict[str, Any]) -> None:
    recorded = {"python": "3.11", "platform": "linux/amd64", "inputs": {}, **extra}
    wanted = {**recorded, "python": None, "platform": None}
    assert matches(wanted, recorded)
    assert not known(wanted)
    assert not matches({**recorded, "seed": "another"}, recorded)
