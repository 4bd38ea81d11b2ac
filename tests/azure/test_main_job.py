"""The main job with Azure ML as workspace: it starts the runs on an attached VM, or tracks those of the site."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from azureml_emulator.faults import ALWAYS
from edgetrain.core.record import Outcome
from edgetrain.reconcile.drift import drift
from edgetrain.reconcile.report import Event, Status
from tests.azure.site import AzureRepository
from tests.edge import outside
from tests.edge.audited import audited, packaged
from tests.edge.test_main_job import RAVI, canaries, evaluate, reproduced, written
from tests.walk import WALK_ALL, sample

pytestmark = [
    pytest.mark.needs("vm", "azurite", "registry", "mmdebstrap", "skopeo"),
    pytest.mark.xdist_group("azure"),
]
Make = Callable[..., AzureRepository]
ROWS = "\n".join(
    f"{n * 7919 % 9973 / 7:.3f} {n * 104729 % 9967 / 3:.2f} {n * 31 % 89} {n * 1299709 % 99991 / 11:.4f}"
    for n in range(1, 200)
)


# What verify names, by what was edited.
SAYS = {
    ("model", "tag"): {"workspace-tag"},
    ("model", "fixed"): {"workspace-property"},
    ("model", "number"): {"workspace"},
    ("model", "channel"): {"alias"},
    ("model", "gone"): {"workspace"},
    ("run", "tag"): {"run-tag"},
    ("metric", "value"): {"run-metric"},
}

# And what drift names.
DRIFTS = {
    ("model", "tag"): {"workspace/mean@1"},
    ("model", "channel"): {"channel/mean/production"},
    ("model", "gone"): {"workspace/mean@1", "channel/mean/production"},
}


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
    else:
        with packaged(site, tmp_path):
            site.push("Train with a package")
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

    site.merge_proposal(1, production=1, approver=RAVI)
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
    site.sync()
    found = outside.seen(site)
    assert (outside.wrong(found), outside.untold(found), found.answered) == (set(), set(), True)
    audited(site, RAVI, "" if attached else "tiny==1.0")
    drift_names_it(site)
    if WALK_ALL or not attached:
        everything_is_verified(site)


def drift_names_it(site: AzureRepository) -> None:
    """What was changed behind edgetrain's back, at each provider: that alone is named, and left as it is."""
    assert not drift(site.clone).any
    every = {**outside.places(site, "acr"), **entries(site), **registered(site)}
    places = {name: place for name, place in every.items() if place.drifted}
    names = sorted(places)
    for name in (names[number] for number in sample(len(names), 3)):
        with places[name].spoilt():
            before = held(site)
            found = drift(site.clone)
            told = {one for one, _ in found.lost} | {one.id for one in found.drifted}
            assert (told, found.foreign, found.refused) == (places[name].drifted, (), ()), name
            assert held(site) == before, name
    assert not drift(site.clone).any


def held(site: AzureRepository) -> dict[str, Any]:
    """What the providers have."""
    opened = site.opened()
    kinds = ("model", "compute", "datastore", "run", "metric")
    return {
        **{kind: site.documents(kind) for kind in kinds},
        "tags": opened.registry("acr").tags(site.name),
        "artifacts": sorted(opened.artifacts.digests()),
        "refs": site._git("ls-remote", "origin"),
    }


def registered(site: AzureRepository) -> dict[str, outside.Place]:
    """What the workspace was told of the site: let go of by somebody."""
    store = site.testbed.emulator.emulator.store

    def gone(kind: str, key: str) -> Callable[[], object]:
        before = store.get(kind, key)
        store.delete(kind, key)
        return lambda: store.put(kind, key, before)

    return {
        f"{kind}: {key}": outside.Place(lambda kind=kind, key=key: gone(kind, key), set(), {f"attachment/{key}"})  # type: ignore[misc]
        for kind in ("compute", "datastore")
        for key in site.documents(kind)
    }


def everything_is_verified(site: AzureRepository) -> None:
    """Each entry of the workspace and each place of store and registry, changed as only the service could."""
    places = {**outside.places(site, "acr"), **entries(site)}
    names = sorted(places)
    for name in (names[number] for number in sample(len(names), 3)):
        with places[name].spoilt():
            found = outside.seen(site)
            wrong = outside.wrong(found) | {one for one, _ in outside.untold(found)}
            assert wrong == places[name].checks, name
    faults = site.testbed.emulator.emulator.faults
    site.testbed.emulator.fault(r"/modelmanagement/|/history/", status=403, count=ALWAYS)
    try:
        found = outside.seen(site)
    finally:
        faults.clear()
    assert (outside.wrong(found), found.answered) == (set(), False)
    assert {name for name, _ in outside.untold(found)} == {"not-asked"}
    assert outside.wrong(outside.seen(site)) == set()


def entries(site: AzureRepository) -> dict[str, outside.Place]:
    """The registered model and the run, in the emulator's own store."""
    store = site.testbed.emulator.emulator.store
    [run] = site.runs()
    [(model, _)] = store.scan("model")
    metric = f"{run['runId']}/score"

    def edited(kind: str, key: str, change: Callable[[Any], object]) -> outside.Place:
        def spoil() -> Callable[[], object]:
            before, after = store.get(kind, key), store.get(kind, key)
            change(after)
            store.put(kind, key, after)
            return lambda: store.put(kind, key, before)

        said = change.__name__
        return outside.Place(spoil, SAYS[kind, said], DRIFTS.get((kind, said), frozenset()))

    def tag(document: Any) -> None:
        tags = document["now"]["kvTags"] if kind_of(document) else document["tags"]
        name = "edgetrain.record" if kind_of(document) else "edgetrain.identity"
        tags[name] = outside.flipped(tags[name].encode()).decode()

    def kind_of(document: Any) -> bool:
        return "now" in document

    def fixed(document: Any) -> None:
        properties = document["now"]["properties"]
        properties["edgetrain.digest"] = outside.flipped(properties["edgetrain.digest"].encode()).decode()

    def number(document: Any) -> None:
        document["now"]["properties"]["edgetrain.version"] = "3"

    def channel(document: Any) -> None:
        del document["now"]["kvTags"]["edgetrain.channel.production"]

    def gone(document: Any) -> None:
        document["now"] = None

    def value(document: Any) -> None:
        for row in document["rows"]:
            row["data"]["score"] += 0.001

    edits = [("model", model, one) for one in (tag, fixed, number, channel, gone)]
    edits += [("run", run["runId"], tag), ("metric", metric, value)]
    return {f"{kind}: {change.__name__}": edited(kind, key, change) for kind, key, change in edits}


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
