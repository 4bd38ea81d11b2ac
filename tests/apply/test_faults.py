"""Faults of the machine, the remote and the state around an apply: each is told with what to do next, nothing is
lost, and the apply after it comes to the same end, everything there once."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from edgetrain.cli.app import app
from edgetrain.core.errors import EdgetrainError
from edgetrain.providers.folder.artifacts import FolderArtifacts
from edgetrain.providers.folder.datastore import FolderDatastore
from edgetrain.reconcile.planning import open_site
from edgetrain.reconcile.seen import check_seen
from edgetrain.reconcile.state import read_commit
from edgetrain.repo.git import Git
from tests.apply.evaluated import EvaluatedSite
from tests.apply.site import PERSON, SmallSite
from tests.providers.local.test_local_environment import index, wheel  # noqa: F401
from tests.walk import sample

# More than the least that a target must have free, and gone with the test.
DISK = 1200 * 2**20
# Where a disk is full from which step on. At the first of them nothing is begun yet; at the last all is recorded.
FULL = [
    *(("state", step) for step in ("measure", "ticket", "start", "examine", "artifacts", "track", "log", "forget")),
    *(("clone", step) for step in ("measure", "record", "commit", "push", "worktree", "branch", "propose")),
    *(("remote", step) for step in ("start", "push", "propose")),
    *(
        ("state", step)
        for step in ("scoring-ticket", "score-measure", "score-start", "score-read", "score-log", "score")
    ),
]
ROOT = Path(__file__).parents[2]
OTHER_CLOCK = {"GIT_AUTHOR_DATE": "2001-02-03T04:05:06Z", "GIT_COMMITTER_DATE": "2001-02-03T04:05:06Z"}


class Disk:
    """A file system of its own, to be filled up or made read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={DISK}", "none")

    def _mount(self, *options: str) -> None:
        subprocess.run(["mount", *options, str(self.folder)], check=True, capture_output=True)

    def fill(self) -> None:
        """Leave no byte."""
        with (self.folder / "filler").open("wb", buffering=0) as file:
            size = 2**24
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2

    def free(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)

    def read_only(self, on: bool) -> None:
        self._mount("-o", f"remount,{'ro' if on else 'rw'}")

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    return SmallSite(tmp_path / "site").make()


def on_disk(disk: Disk, folder: Path, place: str, kind: type[SmallSite] = SmallSite) -> SmallSite:
    """A site of which one part lies on the disk."""
    site = kind(folder / "site")
    folder = disk.folder / "part"
    setattr(site, place, folder)
    site.clone.parent.mkdir(parents=True, exist_ok=True)
    return site.make()


def told(site: SmallSite, step: Callable[[str], None] = lambda name: None) -> list[str]:
    """An apply that meets a fault: the reasons that it tells, each with what to do next."""
    try:
        result = site.apply(step=step)
    except EdgetrainError as error:
        assert error.fix, error.message
        return [error.reason]
    assert all(problem.fix for problem in result.plan.problems)
    bad = [one for one in result.results if not one.good]
    assert all(one.fix for one in bad), bad
    return [*(problem.code for problem in result.plan.problems), *(one.reason for one in bad)]


def by_hand(site: SmallSite) -> Result:
    """The same on the command line, where nobody may see a traceback or a secret."""
    ended = CliRunner().invoke(app, ["-C", str(site.clone), "apply"])
    assert "Traceback" not in ended.output
    assert "sorry" not in ended.output
    return ended


def converged(site: SmallSite, attempts: int = 1) -> None:
    """The fault is gone: one more apply is enough, and everything is there once."""
    assert site.apply().good
    again = site.apply()
    assert (list(again.results), list(again.plan.problems)) == ([], [])
    records = site.records()
    assert {path: site.commits_of(path) for path in records} == dict.fromkeys(records, 1)
    runs = {path: found for path, found in records.items() if found["kind"] == "RunRecord"}
    assert sorted(path[-7:] for path in runs) == [f"-{number}.json" for number in range(1, attempts + 1)]
    last: Any = runs[max(runs)]
    assert last["outcome"] == "candidate"
    assert len([found for found in records.values() if found["kind"] == "ProposalRecord"]) == 1
    assert site.branches() == ["edgetrain/proposal/mean-1", "main"]
    store = FolderArtifacts(root=site.state / "artifacts")
    assert [list(store.claims(kind)) for kind in ("tickets/", "retries/", "given-up/")] == [[], [], []]
    kept = {file["digest"] for output in last["outputs"].values() for file in output["files"]}
    assert {digest for digest, _ in store.digests()} == kept
    for digest in kept:
        with store.open(digest) as stream:
            assert "sha256:" + hashlib.sha256(stream.read()).hexdigest() == digest
    client = MlflowClient(f"sqlite:///{site.state / 'mlflow.db'}")
    assert len(client.search_runs([one.experiment_id for one in client.search_experiments()])) == attempts


# --- disks -------------------------------------------------------------------------------------------


@pytest.mark.needs("mount")
@pytest.mark.parametrize("number", sample(len(FULL), 1))
def test_a_disk_that_fills_up(disk: Disk, tmp_path: Path, number: int) -> None:
    place, where = FULL[number]
    site = on_disk(disk, tmp_path, place, EvaluatedSite if where.startswith("scor") else SmallSite)
    reached: list[str] = []

    def step(name: str) -> None:
        if name == where and name not in reached:
            disk.fill()
        reached.append(name)

    reasons = told(site, step)
    assert where in reached
    assert set(reasons) <= {"StorageFull", "DiskNotWritable", "RemoteRefused", "P503"}
    assert reasons or place == "state", "only what is written already needs no room"
    disk.free()
    converged(site)


@pytest.mark.needs("mount")
@pytest.mark.parametrize(
    ("place", "reason"), [("state", "P503"), ("clone", "DiskNotWritable"), ("remote", "RemoteRefused")]
)
def test_what_is_read_only(disk: Disk, tmp_path: Path, place: str, reason: str) -> None:
    site = on_disk(disk, tmp_path, place)
    disk.read_only(True)
    ended = by_hand(site)
    assert ended.exit_code == 3
    assert reason in ended.output
    assert "writable" in ended.output or place == "state"
    assert told(site) == [reason]
    disk.read_only(False)
    converged(site)


# --- the remote --------------------------------------------------------------------------------------


def test_a_remote_that_hangs(site: SmallSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook, pipe = site.remote / "hooks" / "pre-receive", tmp_path / "nobody writes here"
    os.mkfifo(pipe)
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nexec cat '{pipe}'\n")
    hook.chmod(0o755)
    patient = Git.attempt_remote

    def impatient(git: Git, *arguments: str, timeout: float = 600.0) -> Any:
        return patient(git, *arguments, timeout=1.0 if arguments[0] == "push" else timeout)

    with monkeypatch.context() as patch:
        patch.setattr(Git, "attempt_remote", impatient)
        assert told(site) == ["GitTimeout"]
    hook.unlink()
    converged(site)


def test_history_that_moved_back_trains_nothing_again(site: SmallSite) -> None:
    site.apply()
    before, whole = site.records(), site._git("rev-parse", "origin/main").strip()
    first = site._git("rev-list", "--max-parents=0", "origin/main").strip()
    site._git("push", "--quiet", "--force", "origin", f"{first}:main")
    ended = by_hand(site)
    assert ended.exit_code == 1
    assert "main's history was rewritten" in ended.output
    assert f"origin {whole[:12]}:main" in ended.output
    assert site.records() == {}
    site._git("push", "--quiet", "--force", "origin", f"{whole}:main")
    converged(site)
    assert site.records() == before


def test_a_fresh_clone_notices_that_history_moved_back(site: SmallSite, tmp_path: Path) -> None:
    site.apply()
    before, whole = site.records(), site._git("rev-parse", "origin/main").strip()
    memory = site.state / "records.json"
    assert json.loads(memory.read_bytes())["records"]
    first = site._git("rev-list", "--max-parents=0", "origin/main").strip()
    site._git("push", "--quiet", "--force", "origin", f"{first}:main")
    fresh = SmallSite(site.second_clone(tmp_path / "other"))
    fresh.remote, fresh.state, fresh.data = site.remote, site.state, site.data
    ended = by_hand(fresh)
    assert ended.exit_code == 1
    assert "main's history was rewritten" in ended.output
    assert "`records.json` from the state folder of site here" in " ".join(ended.output.split())
    assert site.records() == {}
    site._git("push", "--quiet", "--force", "origin", f"{whole}:main")
    converged(fresh)
    assert site.records() == before
    # A memory that can't be read is none.
    memory.write_bytes(b"{" * 10_000)
    assert fresh.apply().good
    assert json.loads(memory.read_bytes())["records"]


def test_an_apply_that_read_main_earlier_than_another_sees_nothing_gone(site: SmallSite) -> None:
    site.apply()
    memory = site.state / "records.json"
    ahead = memory.read_bytes()
    first = site._git("rev-list", "--max-parents=0", "origin/main").strip()
    state = read_commit(Git.find(site.clone), first)
    check_seen(state, open_site(state, None))
    assert memory.read_bytes() == ahead


def test_no_order_comes_from_a_clock(site: SmallSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site.apply()
    ahead = 2**31 - 1
    for path in [site.state, *site.state.rglob("*")]:
        if not path.is_symlink():
            os.utime(path, (ahead, ahead))
    site.sync()
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4")
    with monkeypatch.context() as patch:
        for name, value in OTHER_CLOCK.items():
            patch.setitem(PERSON, name, value)
        site.push("A merge of long ago")
    assert [one.reason for one in site.apply().results] == ["GatesPassed", "NewerCandidate"]
    site.merge_proposal(1, production=1)
    assert site.apply().good
    assert site.apply().results == ()
    cited = (site.clone / "models/mean/versions/1.yaml").read_text()
    assert "shift: 0.4" in cited


def test_a_clock_that_was_set_back_between_two_applies(site: SmallSite, tmp_path: Path) -> None:
    site.apply()
    site.sync()
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4")
    site.push("Shift less")
    years = str(3 * 365 * 86400)
    log = tmp_path / "log"
    command = [sys.executable, "-m", "tests.apply.set_back", years, str(site.clone.parent), "-1", str(log)]
    ended = subprocess.run(command, cwd=ROOT, check=False, timeout=300, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    site._git("fetch", "--quiet", "origin")
    newest, *_, oldest = map(int, site._git("log", "--format=%ct", "origin/main").split())
    assert newest < oldest, "its records came from that clock"
    assert site.apply().results == ()
    # The newer candidate is the one that was made later, whatever the clock said.
    text = site._git("show", "origin/edgetrain/proposal/mean-1:models/mean/versions/1.yaml")
    assert "shift: 0.4" in text
    site.merge_proposal(1, production=1)
    assert site.apply().good
    assert site.apply().results == ()


# --- the state ---------------------------------------------------------------------------------------


def test_a_workspace_that_somebody_holds(site: SmallSite) -> None:
    with closing(sqlite3.connect(site.state / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert told(site) == ["DatabaseLocked"]
        other.execute("ROLLBACK")
    converged(site)


def test_caches_that_are_no_databases_are_made_anew(site: SmallSite) -> None:
    FolderDatastore(root=site.data, cache=site.state / "digests" / "store").digest("table/")
    (digests,) = (site.state / "digests").rglob("*.sqlite3")
    blobs = site.clone / ".edgetrain" / "blobs.db"
    blobs.parent.mkdir(exist_ok=True)
    for path in (digests, blobs):
        path.write_bytes(b"no database" * 1000)
    converged(site)
    for path in (digests, blobs):
        assert path.read_bytes().startswith(b"SQLite format 3"), path


def test_caches_that_somebody_holds_are_gone_without(site: SmallSite) -> None:
    FolderDatastore(root=site.data, cache=site.state / "digests" / "store").digest("table/")
    blobs = site.clone / ".edgetrain" / "blobs.db"
    blobs.parent.mkdir(exist_ok=True)
    caches = [*(site.state / "digests").rglob("*.sqlite3"), blobs]
    with ExitStack() as held:
        for path in caches:
            other = held.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
            other.execute("BEGIN EXCLUSIVE")
        assert site.apply().good
    converged(site)


def test_a_damaged_artifact_is_not_scored(tmp_path: Path) -> None:
    site = EvaluatedSite(tmp_path / "site").make()
    sound: dict[Path, bytes] = {}

    def harm(name: str) -> None:
        if name == "scoring-ticket" and not sound:
            (blob,) = (path for path in (site.state / "artifacts" / "blobs").rglob("*") if path.is_file())
            sound[blob] = blob.read_bytes()
            blob.write_bytes(sound[blob][:-1] + bytes([sound[blob][-1] ^ 1]))

    assert told(site, harm) == ["ArtifactDamaged"]
    assert site.scored() == []
    # As it is told: the run has no record yet, so its target still holds the model.
    for blob in sound:
        blob.unlink()
    converged(site)
    assert len(site.scored()) == 1


@pytest.mark.parametrize(("harm", "reason"), [("damaged", "ArtifactDamaged"), ("missing", "ArtifactMissing")])
def test_an_artifact_that_is_not_as_recorded_is_never_released(site: SmallSite, harm: str, reason: str) -> None:
    site.apply()
    site.merge_proposal(1)
    (blob,) = (path for path in (site.state / "artifacts" / "blobs").rglob("*") if path.is_file())
    sound = blob.read_bytes()
    if harm == "damaged":
        blob.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    else:
        blob.unlink()
    ended = by_hand(site)
    assert ended.exit_code == 3
    assert reason in ended.output
    assert "restore the artifact store" in ended.output
    assert not [path for path in site.records() if ".release-" in path]
    blob.write_bytes(sound)
    assert site.apply().good
    assert site.apply().results == ()
    assert [path for path in site.records() if ".release-" in path] == ["models/mean/versions/1.release-1.json"]


def test_wishes_that_a_killed_apply_left_behind_are_cleared_away(site: SmallSite) -> None:
    site.apply()
    (run,) = (path for path in site.records() if "/runs/" in path)
    store = FolderArtifacts(root=site.state / "artifacts")
    name = f"mean-{Path(run).stem}"
    for claims in ("retries/", "given-up/"):
        store.claim(claims + name, b"{}")
    steps: list[str] = []
    site.apply(step=steps.append)
    assert steps.count("release-wish") == 2
    converged(site)
