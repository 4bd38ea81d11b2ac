"""The runner against GitHub's stand-in: a private repository, a protected main, and an App that alone may push."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.digest import parse_canonical
from edgetrain.reconcile.apply import Options, apply
from edgetrain.reconcile.due import due
from edgetrain.reconcile.report import ApplyResult
from testbed.github import GithubServer
from tests.apply.site import CONFIGURATION, EXPERIMENT, MODEL, SCRIPT, TARGET

NAME = "hosp/models"
FORGE = """\
  forge:
    type: github
    repository: hosp/models
    server: {server}
    api: {api}
    app: {{id: "{app}", privateKey: {{secret: app-key}}}}
  secrets:
    app-key: {{source: {{file: {key}}}}}
  proxy: {{caBundle: {ca}}}
"""


class Hub:
    """The repository on the server, and the runner's checkout, which holds no credential."""

    def __init__(self, server: GithubServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.clone = folder / "clone"
        self.app, key = server.app("edgetrain-app", repositories=None)
        (folder / "app.pem").write_text(key)
        (folder / "app.pem").chmod(0o600)
        (folder / "data" / "table").mkdir(parents=True)
        (folder / "data" / "table" / "a.txt").write_text("1 2 3\n")
        configuration = CONFIGURATION.replace("STATE", json.dumps(str(folder / "state")))
        configuration = configuration.replace("DATA", json.dumps(str(folder / "data")))
        forge = FORGE.format(
            server=server.url, api=server.api, app=self.app, key=folder / "app.pem", ca=json.dumps(str(server.ca))
        )
        files = {
            "edgetrain.yaml": configuration + forge,
            "compute/runner.yaml": TARGET,
            "experiments/mean/experiment.yaml": EXPERIMENT,
            "experiments/mean/train.py": SCRIPT,
            "models/mean/model.yaml": MODEL.replace("@example/ds", "@ada"),
            ".gitignore": ".edgetrain/\n",
        }
        (folder / "state").mkdir()
        server.create_repository(NAME, files=files)
        for login in ("ada", "grace"):
            server.grant(NAME, login, "write")
        server.protect(NAME, approvals=0, kind="ruleset", bypass_apps=[self.app])
        self.git("clone", "--quiet", str(server.git_folder(NAME)), str(self.clone), cwd=folder)
        self.git("remote", "set-url", "origin", server.remote(NAME))

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=cwd or self.clone,
            env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def apply(self) -> ApplyResult:
        return apply(self.clone, Options(), lambda event: None)

    def records(self) -> dict[str, Any]:
        bare = self.server.git_folder(NAME)
        names = self.git("ls-tree", "-r", "--name-only", "main", cwd=bare).splitlines()
        return {
            name: parse_canonical(self.git("show", f"main:{name}", cwd=bare).encode())
            for name in names
            if name.endswith(".json") and name.startswith(("experiments/", "models/"))
        }

    def pull(self, branch: str, files: dict[str, str | bytes | None], approver: str) -> int:
        """Ada's pull request, approved and merged."""
        self.server.commit(NAME, branch, files, by="ada")
        number = self.server.open_pull(NAME, branch, by="ada")
        self.server.review(NAME, number, by=approver, state="approved", body="Looked at.")
        self.server.merge(NAME, number, by="grace")
        return number


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with GithubServer() as server:
        yield Hub(server, tmp_path)
        assert server.violations == []


def test_a_merge_is_trained_proposed_and_released_by_the_app(hub: Hub) -> None:
    asked = hub.pull("shift", {"experiments/mean/experiment.yaml": EXPERIMENT.replace("0.5", "0.4")}, "grace")
    result = hub.apply()
    assert result.good, result.results
    records = hub.records()
    (run,) = (record for record in records.values() if record["kind"] == "RunRecord")
    grace = hub.server.account_id("grace")
    assert run["provenance"]["approvers"] == [f"grace <{grace}+grace@users.noreply.localhost>"]
    assert run["provenance"]["review"]["pullRequest"] == asked
    (proposal,) = (record for record in records.values() if record["kind"] == "ProposalRecord")
    number = proposal["pullRequest"]
    pull = hub.server.pull(NAME, number)
    assert pull["user"]["login"] == "edgetrain-app[bot]"
    assert [one["login"] for one in pull["requested_reviewers"]] == ["ada"]
    assert [one["name"] for one in pull["labels"]] == ["edgetrain"]
    (comment,) = hub.server.comments(NAME, asked)
    assert "candidate" in comment["body"]

    hub.server.review(NAME, number, by="ada", state="approved", body="Good.")
    hub.server.merge(NAME, number, by="ada")
    assert due(hub.clone).release
    assert hub.apply().good
    (released,) = (record for record in hub.records().values() if record["kind"] == "ReleaseRecord")
    assert [one.split(" ")[0] for one in released["provenance"]["approvers"]] == ["ada"]
    assert "is released" in hub.server.comments(NAME, number)[0]["body"]
    assert not hub.apply().results


def test_each_push_has_a_token_of_its_own_that_may_write_contents_alone(hub: Hub) -> None:
    assert hub.apply().good
    pushes = [one for one in hub.server.requests if one.path.endswith("/git-receive-pack") and one.method == "POST"]
    assert len(pushes) >= 3  # the run, the proposal's branch, its record
    assert {one.kind for one in pushes} == {"installation"}
    assert all(set(one.permissions or ()) == {"contents", "metadata"} for one in pushes)
    minted = [one for one in hub.server.requests if one.path.endswith("/access_tokens")]
    assert len(minted) >= len(pushes)
    assert all("workflows" not in (one.permissions or {}) for one in hub.server.requests)
    for file in (hub.clone / ".git").rglob("*"):
        assert not file.is_file() or b"extraheader" not in file.read_bytes()


def test_a_main_that_refuses_the_app_keeps_the_run_for_the_next_apply(hub: Hub) -> None:
    hub.server.unprotect(NAME)
    hub.server.protect(NAME, approvals=1, kind="ruleset")
    results = hub.apply().results
    assert {row.reason for row in results} == {"RemoteRefused"}
    assert not hub.records()
    assert "ghs_" not in repr(results)
    hub.server.unprotect(NAME)
    assert hub.apply().good
    assert len([name for name in hub.records() if "/runs/" in name]) == 1
