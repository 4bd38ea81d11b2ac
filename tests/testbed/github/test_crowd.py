"""Many at once: nothing is lost, and nothing is done twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from testbed.github import GithubServer
from tests.testbed.github.checkout import Checkout
from tests.testbed.github.conftest import REPOSITORY, Client

CROWD = 6


def test_pushes_comments_and_reads_at_once(server: GithubServer, client: Client, tmp_path: Path) -> None:
    token = server.user("ada")
    issue = server.open_issue(REPOSITORY, "Many", by="ada")
    ada = client("ada")
    clones = [Checkout(server, tmp_path / f"{number}", token).clone() for number in range(CROWD)]

    def work(number: int) -> None:
        own = clones[number]
        own.commit(f"{number}.txt", message=f"{number}")
        assert own.push(f"HEAD:refs/heads/b{number}").returncode == 0
        made = ada.post(
            f"/repos/{REPOSITORY}/pulls", json={"title": f"{number}", "head": f"b{number}", "base": "main"}
        )
        assert made.status_code == 201
        assert (
            ada.post(f"/repos/{REPOSITORY}/issues/{issue}/comments", json={"body": f"{number}"}).status_code == 201
        )

    with ThreadPoolExecutor(CROWD) as pool:
        list(pool.map(work, range(CROWD)))
    pulls = [one for one in server.issues(REPOSITORY) if "pull_request" in one]
    assert {one["number"] for one in pulls} == set(range(issue + 1, issue + 1 + CROWD))
    assert {one["body"] for one in server.comments(REPOSITORY, issue)} == {f"{one}" for one in range(CROWD)}
    assert [one.number for one in server.events()] == list(range(1, len(server.events()) + 1))


def test_of_pushes_to_one_branch_one_wins(server: GithubServer, tmp_path: Path) -> None:
    token = server.user("ada")
    clones = [Checkout(server, tmp_path / f"{number}", token).clone() for number in range(CROWD)]
    tips = [own.commit(f"{number}.txt", message=f"{number}") for number, own in enumerate(clones)]
    seen = len(server.events())
    with ThreadPoolExecutor(CROWD) as pool:
        done = list(pool.map(lambda own: own.push("HEAD:main").returncode, clones))
    (winner,) = (number for number, status in enumerate(done) if status == 0)
    assert server.branch(REPOSITORY) == tips[winner]
    assert [one.payload["after"] for one in server.events(seen)] == [tips[winner]]
