"""The main job with Azure ML as workspace: it starts the runs on an attached VM, or tracks those of the site."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from edgetrain.core.record import Outcome
from edgetrain.reconcile.report import Event, Status
from tests.azure.site import AzureRepository
from tests.edge.test_main_job import canaries, evaluate, reproduced, written

pytestmark = [
    pytest.mark.needs("vm", "azurite", "registry", "mmdebstrap", "skopeo"),
    pytest.mark.xdist_group("azure"),
]
Make = Callable[..., AzureRepository]
ROWS = "\n".join(
    f"{n * 7919 % 9973 / 7:.3f} {n * 104729 % 9967 / 3:.2f} {n * 31 % 89} {n * 1299709 % 99991 / 11:.4f}"
    for n in range(1, 200)
)


def told(said: list[str]) -> Callable[[Event], None]:
    def report(event: Event) -> None:
        said.append(f"{event.kind} {event.subject} {event.message}")

    return report


@pytest.mark.parametrize("attached", [True, False], ids=["attached", "tracked"])
def test_from_merge_to_production(repository: Make, tmp_path: Path, attached: bool) -> None:
    site = repository(attached)
    site.put({"table/a.txt": ROWS.encode()})
    said: list[str] = []
    if attached:
        evaluate(site, most="100000")
    first = site.apply(report=told(said))
    assert [r.outcome for r in first.results if r.outcome] == [Outcome.CANDIDATE], first.results
    [path] = [path for path in site.records() if "/runs/" in path]
    record = site.records()[path]
    assert record["target"]["egress"] == "enforced"  # type: ignore[index]
    [run] = site.ended_runs()
    assert record["workspace"] == {"type": "azureml", "run": run["runId"]}
    assert run["status"] == "Completed", site.run_log(run["runId"], tmp_path / "logs")
    assert run["tags"]["edgetrain.outcome"] == "candidate"
    assert run["tags"]["edgetrain.identity"] == record["identity"]
    assert ("target" in run and run["target"] == "edge-vm-1") is attached
    scores: dict[str, list[float]] = {"score": [0.5]}
    if attached:
        evaluation: Any = record["evaluation"]
        assert (record["metricsSource"], set(evaluation["slices"])) == ("evaluated", {"north", "south"})
        assert evaluation["egress"]["level"] == "enforced"
        scores["evaluated/error"] = [evaluation["metrics"]["error"]]
    assert metrics(site) == scores

    site.merge_proposal(1, production=1)
    second = site.apply(report=told(said))
    assert {r.status for r in second.results} == {Status.APPLIED}, second.results
    [model] = site.models()
    assert model.tags["edgetrain.version"] == model.properties["edgetrain.version"] == "1"
    assert model.run_id == run["runId"]
    assert "edgetrain.channel.production" in model.tags
    assert {"1", "production"} <= set(site.opened().registry("acr").tags(site.name))
    assert site.apply(report=told(said)).results == ()
    if attached:
        reproduced(site)
    assert [found["runId"] for found in site.runs()] == [run["runId"]]
    nothing_leaked(site, said)


def metrics(site: AzureRepository) -> dict[str, list[float]]:
    """The values of each metric in Azure ML, as the unmodified client reads them."""
    [run] = site.ended_runs()
    found = site.client().get_run(run["runId"]).get_metrics()
    return {name: value if isinstance(value, list) else [value] for name, value in found.items()}


def nothing_leaked(site: AzureRepository, said: list[str]) -> None:
    """No secret in state, clone, remote, output, on the VM or in the service's log; no data in the service."""
    secrets = canaries(site)
    assert secrets
    bed = site.testbed
    log = bed.emulator.folder / "requests.jsonl"
    everything: list[tuple[Path, bytes]] = [*written(site.state, site.clone, site.remote, bed.vm.disk)]
    everything += [(Path("said"), "\n".join(said).encode()), (log, log.read_bytes())]
    for file, data in everything:
        if "ssh" in file.parts or file.name in ("key", "authorized_keys"):
            continue
        for secret in secrets:
            assert secret not in data, f"a secret lies in {file}"
        assert b"&sig=" not in data.replace(b"&sig=REDACTED", b""), f"a signature lies in {file}"
    row = ROWS.splitlines()[70].split()[-1].encode()
    # Every access to the Hub's store names its address, with whatever signature.
    hub = urlsplit(bed.azurite.endpoint_at(bed.address)).netloc.encode()
    key = (bed.secrets / "blob-key").read_bytes().strip()
    for file, data in travelled(site):
        assert row not in data, f"data travelled: {file}"
        assert hub not in data and key not in data, f"a way to the data travelled: {file}"


def travelled(site: AzureRepository) -> Iterator[tuple[Path, bytes]]:
    """All that the service has."""
    yield from written(site.testbed.emulator.folder)


def test_a_run_that_fails_is_told_as_failed(repository: Make) -> None:
    site = repository()
    site.write("experiments/mean/train.py", "raise SystemExit(3)\n")
    site.push("Fail")
    [outcome] = [r.outcome for r in site.apply().results if r.outcome]
    assert outcome is Outcome.FAILED
    [run] = site.ended_runs()
    assert run["status"] == "Failed"
    assert run["tags"]["edgetrain.outcome"] == "failed"
    assert not site.apply().results, "a failure settles"


def test_a_smuggling_script_is_rejected_and_nothing_of_it_reaches_azure(repository: Make) -> None:
    site = repository()
    site.put({"table/a.txt": ROWS.encode()})
    site.write(
        "experiments/mean/train.py",
        "import json, os, pathlib\n"
        'data = next(iter(sorted(pathlib.Path(os.environ["EDGETRAIN_INPUT_TABLE"]).iterdir()))).read_bytes()\n'
        'out = pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"])\n'
        "print(data.decode())\n"
        '(out / "model.json").write_bytes(json.dumps({"note": data.decode()}).encode())\n'
        '(out / "metrics.json").write_text(json.dumps({"score": 0.5}))\n',
    )
    site.push("Smuggle")
    [result] = [r for r in site.apply().results if r.operation == "train"]
    assert result.outcome is Outcome.REJECTED, result
    [run] = site.ended_runs()
    assert run["tags"]["edgetrain.outcome"] == "rejected"
    row = ROWS.splitlines()[70].split()[-1].encode()
    for file, data in travelled(site):
        assert row not in data, f"data travelled: {file}"
    assert not any(row.decode() in json.dumps(record) for record in site.records().values())
