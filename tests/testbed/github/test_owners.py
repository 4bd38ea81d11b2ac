"""Code owners are asked for a review, and a merge waits for theirs."""

from __future__ import annotations

import pytest

from testbed.github import GithubServer, NotMergeable
from testbed.github.owners import owners_of
from tests.testbed.github.conftest import REPOSITORY

OWNERS = """
# The last line that matches decides.
*                @hosp/ds
/compute/        @hosp/platform @root   # machines
.github/         @hosp/platform
docs/*           @ada
*.md
/models/**/gate.yaml @grace
"""


@pytest.mark.parametrize(
    ("path", "owners"),
    [
        ("edgetrain.yaml", ["@hosp/ds"]),
        ("compute/a/b.yaml", ["@hosp/platform", "@root"]),
        ("other/compute/a.yaml", ["@hosp/ds"]),
        (".github/workflows/apply.yml", ["@hosp/platform"]),
        ("nested/.github/x", ["@hosp/platform"]),
        ("docs/a.txt", ["@ada"]),
        ("docs/deep/a.txt", ["@hosp/ds"]),
        ("compute/README.md", []),
        ("models/gate.yaml", ["@grace"]),
        ("models/a/b/gate.yaml", ["@grace"]),
        ("models/a/gate.yaml.txt", ["@hosp/ds"]),
    ],
)
def test_the_last_line_decides(path: str, owners: list[str]) -> None:
    assert owners_of(OWNERS, path) == owners


def test_owners_are_asked_and_waited_for(server: GithubServer) -> None:
    server.team("hosp/platform", ["pat"])
    server.team("hosp/ds", ["ada", "grace"])
    server.user("root", {REPOSITORY: "admin"})
    for team in ("platform", "ds"):
        server.grant(REPOSITORY, f"@hosp/{team}", "write")
    server.commit(REPOSITORY, "main", {".github/CODEOWNERS": OWNERS}, by="root")
    server.protect(REPOSITORY, code_owners=True)
    # What the pull request itself says of owners has no say.
    changes = {"compute/edge.yaml": "a", "edgetrain.yaml": "b", ".github/CODEOWNERS": "* @ada\n"}
    server.commit(REPOSITORY, "change", changes, by="ada")
    number = server.open_pull(REPOSITORY, "change", by="ada")
    asked = server.pull(REPOSITORY, number)
    assert {one["slug"] for one in asked["requested_teams"]} == {"platform", "ds"}
    assert [one["login"] for one in asked["requested_reviewers"]] == ["root"]
    server.review(REPOSITORY, number, by="grace")
    with pytest.raises(NotMergeable, match="Waiting on code owner review from hosp/platform"):
        server.merge(REPOSITORY, number, by="grace")
    server.review(REPOSITORY, number, by="pat")
    server.merge(REPOSITORY, number, by="grace")
    assert server.pull(REPOSITORY, number)["merged"] is True


def test_who_may_not_write_is_no_owner(server: GithubServer) -> None:
    server.user("reader", {REPOSITORY: "read"})
    server.commit(REPOSITORY, "main", {"CODEOWNERS": "* @reader @hosp/none someone@hosp.example\n"}, by="ada")
    server.protect(REPOSITORY, code_owners=True)
    server.commit(REPOSITORY, "change", {"a": "a"}, by="ada")
    number = server.open_pull(REPOSITORY, "change", by="ada")
    assert server.pull(REPOSITORY, number)["requested_reviewers"] == []
    server.review(REPOSITORY, number, by="grace")
    server.merge(REPOSITORY, number, by="grace")
