"""Pull requests checked in clones of every sort: conflicts, heads that lag behind, shallow ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetrain.core.errors import RepositoryError, UsageError
from edgetrain.reconcile.pull_request import Asked, check_pull_request
from tests.reconcile.proposals import (
    EXPERIMENT,
    FILES,
    Hub,
    hub,
    reasons,
    sound,
    with_records,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """Tests propose to it and leave its main as it is."""
    return with_records(tmp_path_factory.mktemp("site"))


def everything(root: Path) -> set[str]:
    """Every file of a clone, those of git among them."""
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def test_a_conflict_is_told_with_its_files(tmp_path: Path) -> None:
    made = hub(tmp_path)
    start = made.git("rev-parse", "HEAD")
    made.commit(made.edit(EXPERIMENT, "lr: 0.1", "lr: 0.7"))
    made.git("checkout", "--quiet", start)
    files = made.edit(EXPERIMENT, "lr: 0.1", "lr: 0.2")
    proposal = made.propose(files, merge=False, onto=start)
    before = everything(proposal.root)
    checked = proposal.check()
    report = sound(checked)
    assert not checked.good
    assert (report["merge"], report["conflicts"], report["commit"]) == ("conflict", [EXPERIMENT], proposal.head)
    assert report["changed"] == {"added": 0, "modified": 1, "deleted": 0}
    # The clone is only read: git's own look at the merge left nothing there.
    assert everything(proposal.root) - before <= {".git/edgetrain-scanned.json"}


def test_a_head_that_lags_behind_is_read_as_it_is(tmp_path: Path) -> None:
    made = hub(tmp_path)
    start = made.git("rev-parse", "HEAD")
    made.commit({"README.md": "words\n"})
    checked = made.propose({"more.md": "x\n"}, merge=False, onto=start).check()
    report = sound(checked)
    assert checked.good
    assert report["merge"] == "unmerged" and "as it is" in report["notes"][0]
    assert report["changed"] == {"added": 1, "modified": 0, "deleted": 0}


def test_a_head_with_all_of_main_needs_no_merge(site: Hub) -> None:
    report = sound(site.propose({"more.md": "x\n"}, merge=False).check())
    assert report["merge"] == "current" and report["notes"] == []


def test_main_that_moved_on_since_the_event_is_not_blamed_on_the_proposal(tmp_path: Path) -> None:
    made = hub(tmp_path)
    told = made.git("rev-parse", "HEAD")
    made.commit({"edgetrain.yaml": FILES["edgetrain.yaml"].replace("absolute: 3", "absolute: 4")})
    proposal = made.propose({"README.md": "words\n"})
    report = sound(check_pull_request(proposal.root, Asked(7, proposal.head, told)))
    assert report["base"] == proposal.base
    assert report["attention"] == []


@pytest.mark.parametrize("depth", [1, 2])
def test_a_shallow_clone_says_what_it_can_not_tell(site: Hub, depth: int) -> None:
    checked = site.propose(site.edit(EXPERIMENT, "lr: 0.1", "lr: 0.2"), depth=depth).check()
    report = sound(checked)
    assert checked.good
    assert any("shallow" in note for note in report["notes"])
    assert any(found.code == "H406" for found in checked.problems)


def test_a_merged_version_changed_is_seen_in_a_shallow_clone_too(site: Hub) -> None:
    path = next(iter((site.root / "experiments/scan/runs").iterdir())).relative_to(site.root).as_posix()
    checked = site.propose({path: None}, depth=1).check()
    assert not checked.good
    assert "RecordsTouched" in reasons(sound(checked))


def test_a_clone_without_the_base_says_so(site: Hub) -> None:
    proposal = site.propose({"README.md": "words\n"})
    with pytest.raises(RepositoryError) as caught:
        check_pull_request(proposal.root, Asked(7, proposal.head, "0" * 40))
    assert caught.value.reason == "BaseMissing" and "fetch" in caught.value.fix


def test_another_commit_than_the_merge_is_refused(site: Hub) -> None:
    proposal = site.propose({"README.md": "words\n"})
    with pytest.raises(RepositoryError) as caught:
        check_pull_request(proposal.root, Asked(7, "1" * 40, proposal.base))
    assert caught.value.reason == "NotTheMerge"


@pytest.mark.parametrize("bad", ["main", "--upload-pack=x", "1f" * 19, "HEAD~1", ""])
def test_a_name_in_the_place_of_a_commit_is_usage(site: Hub, bad: str) -> None:
    proposal = site.propose({"README.md": "words\n"})
    for asked in (Asked(7, bad, proposal.base), Asked(7, proposal.head, bad)):
        with pytest.raises(UsageError):
            check_pull_request(proposal.root, asked)
