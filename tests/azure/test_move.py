"""A repository moves from the embedded workspace to Azure ML: one edit, and a plan that says what it means."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from edgetrain.core.record import Outcome
from edgetrain.reconcile.report import Status
from tests.azure.site import AzureRepository

pytestmark = [
    pytest.mark.needs("vm", "azurite", "registry", "mmdebstrap", "skopeo"),
    pytest.mark.xdist_group("azure"),
]
Make = Callable[..., AzureRepository]


def configure(site: AzureRepository, message: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit edgetrain.yaml on main, as the platform's people do."""
    site.sync()
    file = site.clone / "edgetrain.yaml"
    whole = yaml.safe_load(file.read_text())
    change(whole["spec"])
    file.write_text(yaml.safe_dump(whole, sort_keys=False))
    site.push(message)


def planned(site: AzureRepository, *options: str) -> dict[str, Any]:
    """The plan of main's tip, as a reviewer gets it."""
    command = [sys.executable, "-m", "edgetrain", "-C", str(site.clone), "plan", "--format", "json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 4), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_plan_says_what_a_move_means_and_apply_does_it_once(repository: Make) -> None:
    site = repository(attached=False)
    plain = f"127.0.0.1:{site.testbed.registry.port}"
    azure = dict[str, Any]()

    def embedded(spec: dict[str, Any]) -> None:
        azure["workspace"] = spec.pop("workspace")
        spec["registries"] = {"acr": {"type": "oci", "host": plain, "plainHttp": True}}
        spec["allowedBases"] = [one.replace(site.testbed.acr, plain) for one in spec["allowedBases"]]

    configure(site, "Begin with the embedded workspace", embedded)
    text = (site.clone / "experiments/mean/experiment.yaml").read_text()
    site.write("experiments/mean/experiment.yaml", text.replace(site.testbed.acr, plain))
    site.push("From the site's registry")
    assert [r.outcome for r in site.apply().results if r.outcome] == [Outcome.CANDIDATE]
    site.merge_proposal(1, production=1)
    assert {r.status for r in site.apply().results} == {Status.APPLIED}
    assert site.runs() == []

    configure(site, "Move to Azure ML", lambda spec: spec.update(azure))
    changes = {change["id"]: change for change in planned(site)["changes"]}
    assert changes["workspace/mean@1"]["reason"] == "WorkspaceChanged"
    assert not any(change["operation"] in ("train", "push") for change in changes.values()), changes
    assert {r.status for r in site.apply().results} == {Status.APPLIED}
    [model] = site.models()
    assert model.tags["edgetrain.version"] == "1"
    assert "edgetrain.channel.production" in model.tags
    assert planned(site)["changes"] == []
    assert planned(site, "--refresh")["changes"] == []
    assert site.apply().results == ()
