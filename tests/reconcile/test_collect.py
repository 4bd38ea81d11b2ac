"""Garbage collection: what is named stays, what is old and named no more goes, the unknown is left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edgetrain.core.errors import Conflict, InvalidFiles
from edgetrain.providers.folder.artifacts import FolderArtifacts
from edgetrain.reconcile import collect as collecting
from edgetrain.reconcile import lookup
from edgetrain.reconcile.collect import collect, digests_of, moment, named_by
from edgetrain.reconcile.state import State
from edgetrain.render.runs import Collection, collection_text
from tests.apply.site import SmallSite
from tests.reconcile import builders as b

LATER = datetime.now(UTC) + timedelta(days=91)
OLD = "0" * 64


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    return SmallSite(tmp_path / "a site").make()


@pytest.fixture
def store(site: SmallSite) -> FolderArtifacts:
    return FolderArtifacts(root=site.state / "artifacts")


def kinds(found: Collection) -> list[str]:
    return sorted(item.kind for item in found.garbage)


def digest_with(site: SmallSite, shift: float) -> str:
    """The model's digest of the recorded run with this shift."""
    runs = [r for r in site.records().values() if r["kind"] == "RunRecord"]
    (run,) = [r for r in runs if r["parameters"] == {"shift": shift}]
    return str(run["outputs"]["model"]["digest"])  # type: ignore[index]


def three_models(site: SmallSite) -> tuple[str, str, str]:
    """A released version, a candidate that was superseded, and the candidate that is proposed."""
    site.apply()
    site.merge_proposal(1, production=1)
    site.apply()
    for shift in ("0.4", "0.3"):
        site.sync()
        text = (site.clone / "experiments/mean/experiment.yaml").read_text()
        line = next(line for line in text.splitlines() if line.startswith("    shift:"))
        site.write("experiments/mean/experiment.yaml", text.replace(line, f"    shift: {shift}"))
        site.push(f"Shift {shift}")
        site.apply()
    site.sync()
    return digest_with(site, 0.5), digest_with(site, 0.4), digest_with(site, 0.3)


def test_old_and_unnamed_goes_and_the_rest_stays(site: SmallSite, store: FolderArtifacts) -> None:
    version, superseded, proposed = three_models(site)
    unknown = store.put_bytes(b"nobody knows")
    assert collect(site.clone, None, 90, True, datetime.now(UTC)).garbage == (), "all is young"

    dry = collect(site.clone, None, 90, False, LATER)
    assert kinds(dry) == ["artifact", "log", "log", "log"]
    assert [item.name for item in dry.garbage if item.kind == "artifact"] == [superseded]
    assert dry.unknown == {"artifacts": 1}
    assert dry.kept["artifacts of model versions"] == 1
    assert store.size(superseded) is not None
    assert "Nothing was deleted" in collection_text(dry)

    done = collect(site.clone, None, 90, True, LATER)
    assert done.deleted
    assert done.garbage == dry.garbage
    assert "Deleted: 4 things" in collection_text(done)
    assert store.size(superseded) is None
    for digest in (version, proposed, unknown):
        assert store.size(digest) is not None
    assert list((site.state / "logs").iterdir()) == []
    assert collect(site.clone, None, 90, True, LATER).garbage == ()
    assert not site.apply().results, "nothing that apply needs is gone"


def test_a_proposal_that_was_closed_keeps_nothing(site: SmallSite, store: FolderArtifacts) -> None:
    _, superseded, proposed = three_models(site)
    site._git("push", "--quiet", "origin", "--delete", "edgetrain/proposal/mean-2")
    site.edit("experiments/mean/experiment.yaml", "shift: 0.3", "shift: 0.5")
    site.push("Back to the first")
    collect(site.clone, None, 90, True, LATER)
    assert store.size(superseded) is None
    assert store.size(proposed) is None


def test_main_with_problems_collects_nothing(site: SmallSite, store: FolderArtifacts) -> None:
    version, _, _ = three_models(site)
    site.write("models/mean/versions/1.yaml", "broken: true\n")
    site.push("Break the version")
    with pytest.raises(InvalidFiles):
        collect(site.clone, None, 0, True, LATER)
    assert store.size(version) is not None


def test_a_run_that_is_just_finished_is_waited_for(
    site: SmallSite, store: FolderArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "LOCK_SECONDS", 0.1)
    _, superseded, _ = three_models(site)
    name = "mean-aaaaaaaaaaaa-1"
    store.claim(f"tickets/{name}", b'{"site":"here","target":"runner"}')
    with store.lock(f"run/{name}"), pytest.raises(Conflict):
        collect(site.clone, None, 90, True, LATER)
    assert store.size(superseded) is not None


def test_a_run_that_starts_meanwhile_stops_the_collection(
    site: SmallSite, store: FolderArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, superseded, _ = three_models(site)
    looked = []

    def read_main(root: Path, *, refresh: bool) -> State:
        looked.append(refresh)
        if len(looked) == 2:
            store.claim("tickets/mean-aaaaaaaaaaaa-1", b'{"site":"here","target":"runner"}')
        return lookup.read_main(root, refresh=refresh)

    monkeypatch.setattr(collecting, "read_main", read_main)
    with pytest.raises(Conflict, match="started meanwhile"):
        collect(site.clone, None, 90, True, LATER)
    assert looked == [True, True]
    assert store.size(superseded) is not None


def test_environments_by_use_age_and_mark(site: SmallSite) -> None:
    site.apply()
    folder = site.state / "environments"
    (used,) = [path for path in folder.iterdir() if path.is_dir()]
    old, unbuilt, strange = folder / OLD, folder / ("1" * 64), folder / "notes"
    for place in (old, unbuilt, strange):
        place.mkdir()
    (old / "complete").write_text('{"built": "2020-01-01T00:00:00Z"}')
    (old / "file").write_text("12345")
    found = collect(site.clone, None, 90, True, datetime.now(UTC))
    assert [(item.kind, item.name) for item in found.garbage] == [("environment", OLD[:12])]
    assert not old.exists()
    assert used.exists()
    assert unbuilt.exists()
    assert strange.exists()
    assert found.kept["environments of experiments"] == 1


def test_an_old_environment_stays_while_anything_is_under_way(site: SmallSite, store: FolderArtifacts) -> None:
    site.apply()
    old = site.state / "environments" / OLD
    old.mkdir()
    (old / "complete").write_text('{"built": "2020-01-01T00:00:00Z"}')
    store.claim("tickets/mean-aaaaaaaaaaaa-1", b'{"site":"here","target":"runner"}')
    assert collect(site.clone, None, 90, True, datetime.now(UTC)).garbage == ()
    assert old.exists()


def test_run_folders_without_a_ticket(site: SmallSite) -> None:
    site.apply()
    site.sync()
    (run,) = [r for r in site.records().values() if r["kind"] == "RunRecord"]
    name = f"mean-{str(run['identity'])[7:19]}-1"
    (site.state / "runs" / name / "forgotten").unlink()
    (site.state / "runs" / name / "ended.json").write_text("{}")
    stray = site.state / "runs" / "stranger-1"
    stray.mkdir()
    found = collect(site.clone, None, 90, True, datetime.now(UTC))
    assert [(item.kind, item.name) for item in found.garbage] == [("run folder", name)]
    assert (site.state / "runs" / name / "forgotten").exists()
    assert found.unknown == {"run folders": 1}
    assert stray.exists()


# --- what is named -----------------------------------------------------------------------------------


def test_digests_of_hostile_blocks() -> None:
    assert list(digests_of(None)) == []
    assert list(digests_of({"a": 1, "b": {"digest": 5, "files": 7}, "c": {"digest": "sha256:x"}})) == []
    outputs = b.run().data["outputs"]
    assert set(digests_of(outputs)) == {outputs["model"]["digest"]}


@pytest.mark.parametrize("text", [None, "", "yesterday", "2026-01-01T00:00:00", 5])
def test_a_time_that_is_none_makes_young(text: object) -> None:
    assert moment(text) is None


class Reading:
    """What `named_by` reads of a state."""

    def __init__(self, desired: object, recorded: object) -> None:
        self.desired, self.recorded = desired, recorded


def test_reasons_by_strength() -> None:
    merged, young, old = b.run(0.1), b.run(0.2, ended="2030-01-01T00:00:00Z"), b.run(0.3)
    state = Reading(b.desired(b.version(merged, 1), scan=b.experiment(seed=7)), b.recorded(merged, young, old))
    since = datetime(2029, 1, 1, tzinfo=UTC)
    proposal = b.version(old, 2).spec
    digests = [run.data["outputs"]["model"]["digest"] for run in (merged, young, old)]
    without = named_by(state, since, [])  # type: ignore[arg-type]
    assert [without.get(digest) for digest in digests] == ["model versions", "young runs", None]
    found = named_by(state, since, [proposal])  # type: ignore[arg-type]
    assert found[digests[2]] == "open proposals"
    assert set(named_by(state, since, [{"run": "x", "artifacts": []}])) == set(without)  # type: ignore[arg-type]
