"""What of a change needs a reviewer's eye: by names, and by what manifests say."""

from __future__ import annotations

from typing import Any

import pytest

from edgetrain.core.attention import ORDER, of_manifest, of_paths, together
from edgetrain.core.plan import Difference


def reasons(path: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[str]:
    return [one.reason for one in of_manifest(path, before, after)]


MODEL, EXPERIMENT, TARGET = "models/m/model.yaml", "experiments/e/experiment.yaml", "compute/c.yaml"


def test_names_are_told_by_reason_in_the_order_of_weight() -> None:
    changed = [
        ("M", "README.md"),
        ("D", TARGET),
        ("A", "tools/x"),
        ("M", ".github/workflows/b"),
        ("A", ".github/workflows/a"),
    ]
    found = [(one.reason, one.paths) for one in of_paths(changed)]
    assert found == [
        ("WorkflowsChanged", (".github/workflows/a", ".github/workflows/b")),
        ("ToolsChanged", ("tools/x",)),
        ("ManifestRemoved", (TARGET,)),
    ]


@pytest.mark.parametrize(
    "path",
    ["README.md", "docs/workflows/a.yml", "experiments/e/train.py", "x/.github/workflows/a", "toolsx", MODEL],
)
def test_ordinary_names_need_no_eye(path: str) -> None:
    assert of_paths([("M", path)]) == []


def test_what_evaluates_a_model_is_told_as_its_gates_are() -> None:
    paths = ("models/m/evaluation/evaluate.py", "models/m/requirements.lock")
    assert [(one.reason, one.paths) for one in of_paths([("M", path) for path in paths])] == [
        ("GatesChanged", paths)
    ]


def test_records_of_every_sort_are_seen() -> None:
    paths = [
        "experiments/e/runs/ab12ab12ab12-1.json",
        "experiments/e/runs/ab12ab12ab12-1.evaluation-2.json",
        "models/m/versions/1.release-1.json",
        "models/m/proposals/1-ab12ab12ab12-1.json",
    ]
    assert [one.reason for one in of_paths([("A", path) for path in paths])] == ["RecordsTouched"]


def test_a_value_that_came_or_went_is_told_by_its_leaf() -> None:
    before = {"spec": {"secrets": {"a": {"source": {"file": "/a"}}}, "allowUnsandboxed": False}}
    after = {"spec": {"secrets": {"b": {"source": {"environment": "B"}}}, "allowUnsandboxed": 0}}
    (one,) = of_manifest("edgetrain.yaml", before, after)
    assert one.differences == (
        Difference("spec.allowUnsandboxed", False, 0),
        Difference("spec.secrets.a.source.file", "/a", None),
        Difference("spec.secrets.b.source.environment", None, "B"),
    )


def test_many_differences_in_one_place_hide_none_in_another() -> None:
    labels = {f"a{number}": "x" for number in range(99)}
    limits = {"updates": {"absolute": 9999}, "deletions": {"absolute": 9999}}
    after = {"metadata": {"labels": labels}, "spec": {"limits": limits, "secrets": {"a": 1, "b": 2}}}
    (one,) = of_manifest("edgetrain.yaml", {}, after)
    assert [found.path for found in one.differences[:6]] == [
        "spec.limits.deletions.absolute",
        "spec.secrets.a",
        "metadata.labels.a0",
        "spec.limits.updates.absolute",
        "spec.secrets.b",
        "metadata.labels.a1",
    ]
    assert len(one.differences) == 103


def test_a_new_model_is_marked_only_if_it_releases_by_itself() -> None:
    spec = {"gates": [{"metric": "a"}], "card": {"riskClass": "high"}}
    owners = {"owners": ["@a"]}
    assert reasons(MODEL, None, {"metadata": owners, "spec": spec}) == []
    assert reasons(MODEL, None, {"metadata": owners, "spec": {**spec, "release": "automatic"}}) == [
        "ReleaseAutomatic"
    ]


@pytest.mark.parametrize(
    ("path", "before", "after", "wanted"),
    [
        (MODEL, {"spec": {"release": "automatic"}}, {"spec": {"release": "review"}}, []),
        (MODEL, {"spec": {"withdrawn": {"2": "bad"}}}, {"spec": {}}, ["WithdrawalTakenBack"]),
        (MODEL, {"spec": {}}, {"spec": {"withdrawn": {"2": "bad"}}}, []),
        (MODEL, {"spec": {"channels": {"production": 1}}}, {"spec": {"channels": {"production": 2}}}, []),
        (MODEL, {"spec": {"gates": [{"min": 1}]}}, {"spec": {}}, ["GatesChanged"]),
        (MODEL, {"metadata": {"owners": ["@a"]}}, {"metadata": {}}, ["OwnersChanged"]),
        (EXPERIMENT, {"spec": {"egress": {"logs": "forge"}}}, {"spec": {"egress": {"logs": "site"}}}, []),
        (EXPERIMENT, {"spec": {"egress": {"logs": "forge"}}}, {"spec": {}}, []),
        (EXPERIMENT, None, {"spec": {"egress": {"logs": "forge"}}}, ["LogsLeave"]),
        (EXPERIMENT, {"spec": {}}, {"spec": {"inputs": {"a": {"onChange": "train"}}}}, ["TrainsUnasked"]),
        (EXPERIMENT, None, {"spec": {"inputs": {"a": {"onChange": "propose"}}}}, []),
        (TARGET, {"spec": {"ssh": {"hostKeys": ["a"]}}}, {"spec": {"ssh": {"hostKeys": ["b"]}}}, ["TargetChanged"]),
        (TARGET, {"spec": {"capacity": {"slots": 1}}}, {"spec": {"capacity": {"slots": 2}}}, []),
        (TARGET, {"spec": {}}, None, []),
        ("models/m/versions/1.yaml", {"spec": {}}, {"spec": {"model": "m"}}, []),
        ("README.md", {"a": 1}, {"a": 2}, []),
        (MODEL, {"spec": "text"}, {"spec": {"release": "automatic"}}, ["ReleaseAutomatic"]),
        (MODEL, {"spec": {"gates": []}}, {"spec": "text"}, ["GatesChanged"]),
    ],
)
def test_manifests(path: str, before: Any, after: Any, wanted: list[str]) -> None:
    assert reasons(path, before, after) == wanted


def test_what_is_told_twice_becomes_one() -> None:
    found = together(
        [*of_paths([("M", "edgetrain.yaml")]), *of_manifest("edgetrain.yaml", {"spec": {}}, {"spec": {"a": 1}})]
    )
    assert [(one.reason, one.paths, len(one.differences)) for one in found] == [
        ("ConfigurationChanged", ("edgetrain.yaml",), 1)
    ]
    assert set(ORDER) >= {one.reason for one in found}
