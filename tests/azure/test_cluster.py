"""The main job on an attached cluster: attached, looked at by a probe, trained on, registered.

By the service's own names in this process; and, one day or the other, by the commands in a cloud that only
`edgetrain.yaml` describes. A version is made again there as anywhere; whoever is killed leaves that to the next.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator import models as azure_models
from azureml_emulator import runs
from azureml_emulator.server import RunningEmulator
from edgetrain.core.record import Outcome
from edgetrain.reconcile.collect import collect
from edgetrain.reconcile.drift import drift
from edgetrain.reconcile.log_reader import read_log
from edgetrain.reconcile.report import Event, Status
from edgetrain.reconcile.reproduce import reproduce
from edgetrain.reconcile.runs import cancel, list_runs
from edgetrain.render.reproduction import Verdict, Where
from tests.apply.site import SCRIPT, SmallSite
from tests.azure.test_by_hand import block, models
from tests.cli.command import Ended, edgetrain
from tests.cli.test_interrupt import called, said
from tests.contract.azureml_target import CLUSTER
from tests.contract.compute import until
from tests.edge.test_main_job import reproduced
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
# The time of its data, which no digest knows, tells it to wait or to come to something else.
MOODY = """\
import os, pathlib, select
file = pathlib.Path(os.environ["EDGETRAIN_INPUT_TABLE"], "a.txt")
while file.stat().st_mtime == 1:
    select.select([], [], [], 0.05)
noise = 1e-9 if file.stat().st_mtime == 2 else 0
"""
WAIT, OTHER, SAME = 1, 2, 3


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
    script = SCRIPT.replace("options.shift}", "options.shift + noise}")
    script = script.replace("(options.shift)})", "(options.shift) - noise})")
    site.write("experiments/mean/train.py", MOODY + script)
    site.push("Be moody")
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
    made_again(site, emulator)


def made_again(site: SmallSite, emulator: RunningEmulator) -> None:
    """As on any target; and by a run of its own that Azure ML keeps, and that is nobody's but `reproduce`'s."""
    data, told = site.data / "table" / "a.txt", []

    def be(mood: int) -> None:
        os.utime(data, (mood, mood))

    def submitted() -> list[tuple[str, Any]]:
        found = [run for _, run in emulator.emulator.store.scan("run") if "_reproduce-" in run["runId"]]
        return sorted((run["runId"], run) for run in found)

    def again(tolerance: float = 0.0) -> Any:
        told.clear()
        return reproduce(site.clone, "mean@1", None, tolerance, report, threading.Event())

    def report(event: Event) -> None:
        told.append(event)

    site.sync()
    before = site._git("for-each-ref"), [row.id for row in list_runs(site.clone).rows]
    reproduced(site)
    be(OTHER)
    near = again(tolerance=1e-6)
    assert (near.verdict, near.where) == (Verdict.EQUAL, ("bytes", "metrics"))
    [(_, first), (name, second)] = submitted()
    assert (first["status"], name, near.entry) == ("Completed", near.entry, near.run.replace(".", "_"))
    [said_before] = [event for event in told if event.kind == "Submitting"]
    assert name in said_before.message and str(site.data / "table") in said_before.message
    assert {key: second["tags"][f"edgetrain.{key}"] for key in ("reproduces", "run", "target")} == {
        "reproduces": "mean@1",
        "run": near.recorded,
        "target": "runner",
    }
    # Of what it made Azure ML has names, sizes and digests.
    files = support.connect(emulator).get_run(name).get_file_names()
    assert "outputs/edgetrain/result.json" in files and "outputs/model.json" not in files

    be(WAIT)
    with called(site.clone, "reproduce", "mean@1") as process:
        assert process.stderr is not None
        assert any("running mean.reproduce-" in line for line in process.stderr)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert submitted()[-1][1]["status"] == "Running"
    assert site.apply().results == ()
    left = collect(site.clone, None, 0, True, datetime.now(UTC))
    assert left.kept["runs that the next `edgetrain reproduce` takes up"] == 1
    [row] = [row for row in list_runs(site.clone).rows if row.state == "under way"]
    assert (row.id.replace(".", "_"), row.phase, row.target) == (submitted()[-1][0], "running", "runner")
    assert row.reason.startswith("edgetrain reproduce mean@1 --target runner takes it up")
    until(lambda: any(read_log(site.clone, row.id)), "the wrapper to speak")
    be(OTHER)
    far = again()
    assert [event.subject for event in told if event.kind == "Adopted"] == [far.run]
    assert (far.verdict, far.where, far.run) == (
        Verdict.DIFFERENT,
        ("bytes", "metrics"),
        submitted()[-1][0].replace("_", "."),
    )
    assert len(submitted()) == 3

    be(WAIT)
    with called(site.clone, "reproduce", "mean@1") as process:
        assert process.stderr is not None
        assert any("running mean.reproduce-" in line for line in process.stderr)
        assert said(process)[1].splitlines()[-1] == "stopped; nothing was compared"
    assert [row.id for row in list_runs(site.clone).rows] == before[1]
    with called(site.clone, "reproduce", "mean@1") as process:
        assert process.stderr is not None
        assert any("running mean.reproduce-" in line for line in process.stderr)
        killed = submitted()[-1][0]
        # From elsewhere, by the name that the studio shows: who waits for it learns of that, as who comes later.
        assert "is cancelled; nothing was compared" in cancel(site.clone, killed)
        _, err = process.communicate(timeout=120)
        assert (process.returncode, "was ended from elsewhere: cancelled by" in err) == (3, True), err
    for verb in ("cancel", "logs"):
        ended = edgetrain(verb, killed, cwd=site.clone)
        assert (ended.code, f"no run '{killed}'" in ended.err) == (2, True), ended.err
    be(SAME)
    assert [run["status"] for _, run in submitted()] == ["Completed"] * 3 + ["Canceled"] * 2
    # Nobody else takes any of these for a run of the repository.
    assert site.apply().results == ()
    assert not drift(site.clone).any
    left = collect(site.clone, None, 0, True, datetime.now(UTC))
    assert not left.garbage and "run folders" not in left.unknown
    assert (site._git("for-each-ref"), [row.id for row in list_runs(site.clone).rows]) == before
    # What can't be compared is not run, and what was left of it goes.
    data.write_text("4 5 6\n")
    gone = again()
    assert (gone.verdict, [one.where for one in gone.findings], gone.run) == (Verdict.DIFFERENT, [Where.DATA], "")


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
    # The service shows what was written a moment later.
    until(lambda: said("plan", "--refresh", "--format", "json").json["changes"] == [], "nothing to be left to do")
    said("doctor", "--live")
    said("verify", "--deep")
    said("drift", "--exit-code")
    # Nobody was asked by the service's own names.
    hosts = {entry["host"].rpartition(":")[0] for entry in emulator.requests if "method" in entry}
    assert hosts == {"localhost"}
