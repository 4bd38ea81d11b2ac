"""Hundreds of random merges, kills, reverts, retries and collections: what must hold, holds afterwards."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetrain.cli.app import app
from edgetrain.reconcile.verify import verify
from tests.apply import invariants
from tests.apply.invariants import Repository, broken, sha256
from tests.apply.site import SmallSite
from tests.apply.walk import Walk
from tests.walk import SEED, WALK_ALL

# One walk for all of these.
pytestmark = pytest.mark.xdist_group("soak")
STEPS = 500 if WALK_ALL else 8


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """The walk at its end; whatever the dice said, something was released."""
    site = SmallSite(tmp_path_factory.mktemp("soak")).make()
    walk = Walk(site, random.Random(SEED))
    site.release()
    for _ in range(STEPS):
        walk.step()
    walk.settle()
    print(f"\nsoak: seed {SEED}; {' '.join(walk.done)}")
    return walk


def test_after_a_long_life_everything_holds(walked: Walk) -> None:
    site = walked.site
    assert broken(site.remote, site.state, walked.asked) == []
    site.sync()
    found = verify(site.clone, None, True)
    assert found.holds, [check for part in found.parts for check in part.checks]
    before = site.records()
    assert site.apply().results == ()
    assert site.records() == before


def test_every_verb_tells_of_a_long_life(walked: Walk, capsys: pytest.CaptureFixture[str]) -> None:
    site = walked.site
    site.sync()
    repo = Repository(site.remote)
    numbers = sorted(int(one["version"]) for one in repo.of("ReleaseRecord").values() if one["event"] == "released")
    runs = [
        f"{one['experiment']}-{one['identity'][7:19]}-{one['attempt']}" for one in repo.of("RunRecord").values()
    ]
    verbs = [
        *(
            "validate",
            "plan",
            "models",
            "log mean",
            "runs",
            "drift",
            "gc",
            "verify mean",
            "audit --since 2020-01-01",
        ),
        *(f"audit mean@{number}" for number in numbers),
        *(f"compare mean@{numbers[0]} {run}" for run in runs[:20]),
        *(f"audit --commit {commit[:12]}" for commit in site._git("log", "-20", "--format=%H").split()),
        *(f"logs {run}" for run in runs[:3]),
    ]
    for verb in verbs:
        code = app.main(["-C", str(site.clone), *verb.split()], standalone_mode=False)
        told = capsys.readouterr()
        assert code in (0, 1) or "fix: " in told.err, (verb, told)
        assert "sorry" not in told.err, (verb, told.err)


def _first(repo: Repository, kind: str) -> str:
    return min(repo.of(kind))


def _drop(repo: Repository, kind: str) -> None:
    del repo.records[_first(repo, kind)]


def _again(repo: Repository) -> None:
    run = repo.records[_first(repo, "RunRecord")]
    repo.records["experiments/mean/runs/other.json"] = {**run, "attempt": run["attempt"] + 2}


def _twice(repo: Repository) -> None:
    path = next(path for path, one in repo.of("ReleaseRecord").items() if one["event"] == "released")
    repo.records[path.replace("release-", "release-9")] = repo.records[path]
    repo.files[path.replace("release-", "release-9")] = repo.files[path]


HARM: dict[str, tuple[Callable[[Repository], object], Callable[[Repository, Counter[str]], list[str]]]] = {
    "a record with a space": (
        lambda repo: repo.files.update({_first(repo, "RunRecord"): b" {}\n"}),
        lambda repo, asked: list(invariants.records(repo)),
    ),
    "an attempt left out": (_again, lambda repo, asked: list(invariants.runs(repo, asked))),
    "a version without its run": (
        lambda repo: _drop(repo, "RunRecord") or [_drop(repo, "RunRecord") for _ in repo.of("RunRecord")],
        lambda repo, asked: list(invariants.versions(repo)),
    ),
    "a proposal of nothing": (
        lambda repo: repo.proposed.update({"refs/heads/edgetrain/proposal/mean-99": sha256(b"")}),
        lambda repo, asked: list(invariants.proposals(repo)),
    ),
    "a release twice": (_twice, lambda repo, asked: list(invariants.releases(repo))),
    "a channel elsewhere": (
        lambda repo: repo.models["mean"].update(channels={"production": 99}),
        lambda repo, asked: list(invariants.releases(repo)),
    ),
}


@pytest.mark.parametrize("name", HARM)
def test_what_does_not_hold_is_found(walked: Walk, name: str) -> None:
    """The checks themselves can fail."""
    harm, check = HARM[name]
    repo = Repository(walked.site.remote)
    assert check(repo, walked.asked) == []
    harm(repo)
    assert check(repo, walked.asked) != []


def test_stores_that_do_not_hold_are_found(walked: Walk, tmp_path: Path) -> None:
    repo = Repository(walked.site.remote)
    for folder, check in (("images", invariants.registry), ("artifacts", invariants.artifacts)):
        copied = tmp_path / folder
        copied.mkdir()
        for file in sorted((walked.site.state / folder).rglob("*")):
            target = copied / file.relative_to(walked.site.state / folder)
            if file.is_dir():
                target.mkdir(exist_ok=True)
            else:
                target.write_bytes(file.read_bytes())
        assert list(check(repo, copied)) == []
        blob = next(file for file in copied.rglob("sha256/**/*") if file.is_file())
        blob.chmod(0o600)
        blob.write_bytes(b"x" + blob.read_bytes()[1:])
        assert list(check(repo, copied)) != []
