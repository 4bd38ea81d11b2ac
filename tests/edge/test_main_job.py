"""The main job over the real parts of a site: VM, containers, blob store, registry."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.digest import digest_bytes, tree_digest
from edgetrain.core.record import Outcome
from edgetrain.reconcile.drift import drift
from edgetrain.reconcile.report import Event, Status
from edgetrain.reconcile.reproduce import reproduce
from edgetrain.reconcile.verify import verify
from edgetrain.render.reproduction import Verdict
from testbed.site import Testbed
from tests.apply.evaluated import EVALUATE, EVALUATION, WARDS
from tests.cli.command import edgetrain
from tests.edge import outside
from tests.edge.audited import audited, packaged
from tests.edge.site import EdgeSite
from tests.walk import sample

pytestmark = [
    pytest.mark.needs("vm", "azurite", "registry", "mmdebstrap", "skopeo"),
    pytest.mark.xdist_group("edge-main-job"),
]


@pytest.fixture(scope="module")
def testbed() -> Iterator[Testbed]:
    with Testbed() as bed:
        yield bed


@pytest.fixture
def site(testbed: Testbed, tmp_path: Path) -> EdgeSite:
    return EdgeSite(tmp_path / "site", testbed).make()


RAVI = "Ravi Reviewer <ravi@example.org>"


def canaries(site: EdgeSite) -> list[bytes]:
    """Every secret of the site, in the forms in which one could leak."""
    assert site.testbed is not None
    found = []
    for file in site.testbed.secrets.iterdir():
        lines = [line for line in file.read_bytes().splitlines() if len(line) >= 12 and b"-----" not in line]
        found += lines
    return found


def written(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below the folders."""
    for folder in folders:
        for file in folder.rglob("*"):
            if file.is_file() and not file.is_symlink():
                yield file, file.read_bytes()


def evaluate(site: EdgeSite, most: str = "1") -> None:
    """Let the model be evaluated on wards that lie in the blob store; candidates are off by `most`."""
    site.put({f"heldout/{name}": text.encode() for name, text in WARDS.items()})
    held = tree_digest((name, digest_bytes(text.encode())) for name, text in WARDS.items())
    own = EVALUATION.replace("DIGEST", held).replace("datastore: store", "datastore: site-data")
    site.edit("models/mean/model.yaml", "  gates:\n", own + "  gates:\n")
    site.edit("models/mean/model.yaml", "score, goal: maximize, min: 0.1", f"error, goal: minimize, max: {most}")
    site.write("models/mean/evaluation/evaluate.py", EVALUATE)
    site.push("Evaluate on held-out wards")


def reproduced(site: EdgeSite) -> None:
    """Trained again over the site's own way to the machine: the same to the byte, and nobody else learns of it."""
    site.sync()
    before, claims = site._git("for-each-ref"), sorted(site.opened().artifacts.claims(""))
    again = reproduce(site.clone, "mean@1", None, 0.0, lambda event: None, threading.Event())
    assert (again.verdict, again.findings, again.level) == (Verdict.IDENTICAL, (), "enforced")
    assert [(one.name, one.recorded, one.now) for one in again.metrics] == [("score", 0.5, 0.5)]
    assert (site._git("for-each-ref"), sorted(site.opened().artifacts.claims(""))) == (before, claims)


@pytest.fixture(scope="module")
def released(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> tuple[EdgeSite, list[str]]:
    """From merge to production, once: the site, and all that was said."""
    site = EdgeSite(tmp_path_factory.mktemp("released") / "a site", testbed).make()
    said: list[str] = []
    with packaged(site, tmp_path_factory.mktemp("index")):
        return _released(site, said)


def _released(site: EdgeSite, said: list[str]) -> tuple[EdgeSite, list[str]]:
    evaluate(site)

    def report(event: Event) -> None:
        said.append(f"{event.kind} {event.subject} {event.message}")

    first = site.apply(report=report)
    assert [r.outcome for r in first.results if r.outcome] == [Outcome.CANDIDATE], first.results
    [path] = [path for path in site.records() if "/runs/" in path]
    record = site.records()[path]
    assert record["target"]["egress"] == "enforced"  # type: ignore[index]
    assert all(record["target"]["isolation"].values())  # type: ignore[index]
    assert record["inputs"]["table"]["files"] == 1  # type: ignore[index]
    assert "a.txt" not in json.dumps(record)
    evaluation: Any = record["evaluation"]
    assert (record["metricsSource"], evaluation["metrics"]) == ("evaluated", {"error": 0.5})
    assert evaluation["slices"] == {"north": {"error": 0.5}, "south": {"error": 0.5}}
    assert (evaluation["egress"]["level"], evaluation["inputs"]["heldout"]["files"]) == ("enforced", 2)

    site.merge_proposal(1, production=1, approver=RAVI)
    second = site.apply(report=report)
    assert {r.status for r in second.results} == {Status.APPLIED}, second.results
    tags = site.opened().registry("site").tags(site.name)
    assert {"1", "production"} <= set(tags)
    assert len(set(tags.values())) == 1
    assert not site.apply(report=report).results
    site.sync()
    return site, said


def test_from_merge_to_production_and_again(released: tuple[EdgeSite, list[str]]) -> None:
    site, said = released
    reproduced(site)
    assert site.testbed is not None
    secrets = canaries(site)
    assert secrets
    everything = [*written(site.state, site.clone, site.remote, site.testbed.vm.disk)]
    everything.append((Path("said"), "\n".join(said).encode()))
    for file, data in everything:
        if "ssh" in file.parts or file.name in ("key", "authorized_keys"):
            continue
        for secret in secrets:
            assert secret not in data, f"a secret lies in {file}"
        assert b"&sig=" not in data and b"sig%3D" not in data, f"a signature lies in {file}"


def test_data_that_changed_before_its_use_is_rejected_or_measured_anew(site: EdgeSite) -> None:
    assert [r.outcome for r in site.apply().results if r.outcome] == [Outcome.CANDIDATE]
    [path] = [path for path in site.records() if "/runs/" in path]
    digest = site.records()[path]["inputs"]["table"]["digest"]  # type: ignore[index]
    site.edit("experiments/mean/experiment.yaml", "digest: latest", f'digest: "{digest}"')
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.25")
    site.sync_and_push("Try another shift")
    site.put({"table/a.txt": b"4 5 6\n"})
    [result] = [r for r in site.apply().results if r.operation == "train"]
    assert (result.status, result.reason) == (Status.FAILED, "DataDiffers")
    assert "digest:" in result.fix


def test_a_smuggling_script_is_rejected(site: EdgeSite) -> None:
    rows = "\n".join(f"{n},{n * 1.37:.4f},{n * n * 0.731:.4f},patient-{n * 7919}" for n in range(1, 200))
    site.put({"table/a.txt": rows.encode()})
    site.write(
        "experiments/mean/train.py",
        "import json, os, pathlib\n"
        'data = next(iter(sorted(pathlib.Path(os.environ["EDGETRAIN_INPUT_TABLE"]).iterdir()))).read_bytes()\n'
        'out = pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"])\n'
        '(out / "model.json").write_bytes(json.dumps({"note": data.decode()}).encode())\n'
        '(out / "metrics.json").write_text(json.dumps({"score": 0.5}))\n',
    )
    site.push("Smuggle")
    [result] = [r for r in site.apply().results if r.operation == "train"]
    assert result.outcome is Outcome.REJECTED, result
    assert "patient" not in result.message
    assert not any("patient-" in json.dumps(record) for record in site.records().values())


def test_each_place_outside_git_is_verified_to_the_last_byte(released: tuple[EdgeSite, list[str]]) -> None:
    site, _ = released
    found = verify(site.clone, None, deep=True)
    assert (outside.wrong(found), outside.untold(found), found.answered) == (set(), set(), True)
    assert not drift(site.clone).any
    places = outside.places(site)
    names = sorted(places)
    for name in (names[number] for number in sample(len(names), 2)):
        with places[name].spoilt():
            assert outside.wrong(outside.seen(site)) == places[name].checks, name
            said = drift(site.clone)
            assert {one for one, _ in said.lost} | {one.id for one in said.drifted} == places[name].drifted, name
    assert outside.wrong(outside.seen(site)) == set()


# Patience with what may come back takes most of a minute.
@pytest.mark.long(0)
@pytest.mark.parametrize("part", ["azurite", "registry"])
def test_a_part_that_does_not_answer_is_not_called_broken(released: tuple[EdgeSite, list[str]], part: str) -> None:
    site, _ = released
    stopped = getattr(site.testbed, part)
    stopped.stop()
    try:
        found = outside.seen(site)
        ended = edgetrain("drift", cwd=site.clone)
    finally:
        stopped.start()
    assert (found.holds, found.answered, outside.wrong(found)) == (True, False, set())
    assert {name for name, _ in outside.untold(found)} == {"not-asked"}
    assert ended.code == 3
    assert "Traceback" not in ended.err


def test_what_happened_and_what_touches_the_version_is_found_from_git_alone(
    released: tuple[EdgeSite, list[str]],
) -> None:
    site, _ = released
    audited(site, RAVI, "tiny==1.0")
