"""The main job on an attached cluster: attached, looked at by a probe, trained on, registered.

By the service's own names in this process; and, one day or the other, by the commands in a cloud that only
`edgetrain.yaml` describes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from azureml_emulator import models as azure_models
from azureml_emulator import runs
from azureml_emulator.server import RunningEmulator
from edgetrain.core.record import Outcome
from edgetrain.reconcile.report import Status
from tests.apply.site import SmallSite
from tests.azure.test_by_hand import block, models
from tests.cli.command import Ended, edgetrain
from tests.contract.azureml_target import CLUSTER
from tests.contract.compute import until
from tests.emulator import support
from tests.emulator.fixtures import make_emulator  # noqa: F401
from tests.providers.azureml.support import CLOUD

pytestmark = [pytest.mark.long(0.5), pytest.mark.needs("bubblewrap")]
# As a service under load: lists see a write late and come one by one, states last, requests are sent away.
BUSY = {"lag": 1.0, "slow": 0.2, "page_size": 1, "throttle": 40}
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


def on_cluster(emulator: RunningEmulator, folder: Path, cloud: str = "") -> SmallSite:
    """A site whose one target is a cluster."""
    site = SmallSite(folder / "site").make()
    attach_cluster(site, emulator, folder, cloud)
    return site


def attach_cluster(site: SmallSite, emulator: RunningEmulator, folder: Path, cloud: str = "") -> None:
    """Let a cluster be the site's one target; its pods are processes of this machine."""
    text = (site.clone / "edgetrain.yaml").read_text()
    site.write("edgetrain.yaml", text.replace("spec:\n", "spec:\n" + block(emulator, folder, cloud), 1))
    work = folder / "pods"
    work.mkdir()
    image = f"registry.example/pod@sha256:{'0' * 64}"
    site.write("compute/runner.yaml", TARGET.format(cluster=CLUSTER, work=work, image=image))
    site.push("Train on the cluster")


def test_from_an_attached_cluster_to_a_registered_model(
    make_emulator: Callable[..., RunningEmulator],  # noqa: F811
    surroundings: None,
    tmp_path: Path,
) -> None:
    emulator = make_emulator(python=sys.executable)
    site = on_cluster(emulator, tmp_path)
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


def test_the_same_by_the_commands_in_a_declared_cloud(
    make_emulator: Callable[..., RunningEmulator],  # noqa: F811
    surroundings: None,
    tmp_path: Path,
) -> None:
    emulator = make_emulator(python=sys.executable, **BUSY)
    site = on_cluster(emulator, tmp_path, CLOUD)

    def said(*words: str, code: int = 0) -> Ended:
        ended = edgetrain(*words, cwd=site.clone)
        assert ended.code == code, ended.out + ended.err
        return ended

    assert "attach" in said("plan", "--refresh", "--exit-code", code=4).out

    def trained() -> bool:
        said("apply")
        return any("/runs/" in path for path in site.records())

    until(trained, "the probe to be over, and the run after it")
    [record] = [r for r in site.records().values() if r["kind"] == "RunRecord"]
    assert record["outcome"] == "candidate"
    run = runs.get(emulator.emulator, record["workspace"]["run"])  # type: ignore[index]
    assert run is not None
    assert (run["status"], run["target"]) == ("Completed", "runner")

    site.merge_proposal(1, production=1)
    said("apply")
    model = azure_models.model(emulator.emulator, "mean:1")
    assert model is not None
    assert (model["runId"], model["kvTags"]["edgetrain.channel.production"]) == (run["runId"], "true")
    site.sync()
    assert said("plan", "--refresh", "--format", "json").json["changes"] == []
    said("doctor", "--live")
    said("verify", "--deep")
    said("drift", "--exit-code")
    # Nobody was asked by the service's own names.
    hosts = {entry["host"].rpartition(":")[0] for entry in emulator.requests if "method" in entry}
    assert hosts == {"localhost"}
