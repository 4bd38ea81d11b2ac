"""What a merge would give, told without merging: parents, and the paths that conflict."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgetrain.repo.merge import conflicts, parents, present
from tests.repo.conftest import Checkout

Make = Callable[..., Checkout]


def parted(checkout: Checkout, ours: dict[str, str], theirs: dict[str, str]) -> tuple[str, str]:
    """Two commits that left one another."""
    start = checkout.sh("rev-parse", "HEAD")
    one = checkout.commit("ours", **ours)
    checkout.sh("checkout", "--quiet", "--detach", start)
    return one, checkout.commit("theirs", **theirs)


@pytest.mark.parametrize("name", ["plain", 'site: a/"quoted" \\ back', "größe"])
def test_the_paths_that_conflict(make: Make, name: str) -> None:
    checkout = make(name)
    ours, theirs = parted(checkout, {"README": "ours\n", "ö b\n": "1\n"}, {"README": "theirs\n", "ö b\n": "2\n"})
    before = checkout.sh("count-objects", "--verbose")
    assert conflicts(checkout.git, ours, theirs) == ["README", "ö b\n"]
    assert checkout.sh("count-objects", "--verbose") == before
    assert checkout.sh("rev-parse", "HEAD") == theirs


def test_what_merges_has_none(make: Make) -> None:
    ours, theirs = parted(checkout := make(), {"a": "1\n"}, {"b": "1\n"})
    assert conflicts(checkout.git, ours, theirs) == []


def test_without_a_common_start_it_is_not_told(make: Make) -> None:
    checkout = make()
    one = checkout.sh("rev-parse", "HEAD")
    checkout.sh("checkout", "--quiet", "--orphan", "other")
    assert conflicts(checkout.git, one, checkout.commit("another first")) is None


def test_parents_are_told_that_a_shallow_clone_lacks(make: Make) -> None:
    checkout = make()
    ours, theirs = parted(checkout, {"a": "1\n"}, {"b": "1\n"})
    checkout.sh("checkout", "--quiet", "-B", "main", ours)
    checkout.sh("merge", "--quiet", "--no-ff", "-m", "a merge\n\nparent 0000\n", theirs)
    shallow = make("shallow", checkout.root, "--depth=1")
    assert parents(shallow.git, "HEAD") == (ours, theirs)
    assert present(shallow.git, shallow.git.head())
    assert not present(shallow.git, ours)
    assert parents(checkout.git, ours) == (checkout.sh("rev-parse", f"{ours}^"),)
