"""The main job on an attached cluster: attached, looked at by a probe, trained on, registered."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from azureml_emulator.server import RunningEmulator
from edgetrain.core.record import Outcome
from edgetrain.reconcile.report import Status
from tests.apply.site import SmallSite
from tests.azure.test_by_hand import block, models
from tests.contract.azureml_target import CLUSTER
from tests.contract.compute import until
from tests.emulator import support
from tests.emulator.fixtures import make_emulator  # noqa: F401

pytestmark = [pytest.mark.needs("bubblewrap"), pytest.mark.xdist_group("azure")]
TARGET = """\
apiVersion: edgetrain/v1
kind: ComputeTarget
metadata: {{name: runner}}
spec:
  type: azureml-kubernetes
  site: here
  azuremlKubernetes: {{resourceId: "{cluster}", namespace: ml, workFolder: "{work}", image: "{image}"}}
  capacity: {{slots: 2}}
"""


def test_from_an_attached_cluster_to_a_registered_model(
    make_emulator: Callable[..., RunningEmulator],  # noqa: F811
    surroundings: None,
    tmp_path: Path,
) -> None:
    site = SmallSite(tmp_path / "site").make()
    emulator = make_emulator(python=sys.executable)
    text = (site.clone / "edgetrain.yaml").read_text()
    site.write("edgetrain.yaml", text.replace("spec:\n", "spec:\n" + block(emulator, tmp_path), 1))
    work = tmp_path / "pods"
    work.mkdir()
    image = f"registry.example/pod@sha256:{'0' * 64}"
    site.write("compute/runner.yaml", TARGET.format(cluster=CLUSTER, work=work, image=image))
    site.push("Train on the cluster")

    results = site.apply().results
    assert [(r.operation, r.status) for r in results if r.operation == "attach"] == [("attach", Status.APPLIED)]

    def trained() -> bool:
        outcomes = [r["outcome"] for r in site.records().values() if r["kind"] == "RunRecord"]
        return outcomes == [Outcome.CANDIDATE.value] or not site.apply().good

    until(trained, "the probe to be over, and the run after it")
    [record] = [r for r in site.records().values() if r["kind"] == "RunRecord"]
    assert record["outcome"] == "candidate"
    assert record["target"]["egress"] == "enforced"  # type: ignore[index]
    run = support.connect(emulator).get_run(record["workspace"]["run"])  # type: ignore[index]
    assert run.get_status() == "Completed"
    assert run.get_metrics() == {"score": 0.5}

    site.merge_proposal(1, production=1)
    assert {r.status for r in site.apply().results} == {Status.APPLIED}
    [model] = models(emulator)
    assert (model.run_id, model.tags["edgetrain.channel.production"]) == (run.id, "true")
    assert site.apply().results == ()
