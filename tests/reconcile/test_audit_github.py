"""From a pull request on the stand-in for GitHub to an audit from git alone, and both held against each other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgetrain.core.ports import CheckStatus
from edgetrain.reconcile.apply import Options, apply
from edgetrain.reconcile.audit import audit
from edgetrain.reconcile.data_watch import watch_data
from edgetrain.reconcile.verify import verify
from edgetrain.render.audit import audit_text
from edgetrain.render.hands import Hand, Review
from testbed.github import GithubServer
from tests.apply.site import EXPERIMENT, MODEL, SCRIPT, TARGET, empty_workspace

pytestmark = pytest.mark.needs("git>=2.34", "ssh-keygen")
REPOSITORY = "hosp/models"
MANIFEST = "experiments/mean/experiment.yaml"


@dataclass
class Hospital:
    """The stand-in with a repository, and the site's runner with its clone."""

    server: GithubServer
    folder: Path

    @property
    def clone(self) -> Path:
        return self.folder / "clone"

    def make(self, monkeypatch: pytest.MonkeyPatch) -> None:
        (self.folder / "data" / "table").mkdir(parents=True)
        (self.folder / "data" / "table" / "a.txt").write_text("1 2 3\n")
        (self.folder / "state").mkdir()
        shutil.copy2(empty_workspace(), self.folder / "state" / "mlflow.db")
        key = self.folder / "machine"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        server = self.server
        server.create_repository(REPOSITORY)
        for login in ("dana", "rita", "pat"):
            server.user(login, {REPOSITORY: "write"})
        app, pem = server.app("edgetrain", repositories=[REPOSITORY])
        monkeypatch.setenv("TEST_APP_KEY", pem)
        store = {"type": "folder", "path": str(self.folder / "data")}
        configuration = {
            "forge": {
                "type": "github",
                "repository": REPOSITORY,
                "server": server.url,
                "api": server.api,
                "app": {"id": str(app), "privateKey": {"secret": "app-key"}},
            },
            "sites": {"here": {"state": str(self.folder / "state"), "datastores": {"store": store}}},
            "secrets": {
                "app-key": {"source": {"environment": "TEST_APP_KEY"}},
                "machine-key": {"source": {"file": str(key)}},
            },
            "machine": {"signingKey": {"secret": "machine-key"}},
            "proxy": {"caBundle": str(server.ca)},
            "allowUnsandboxed": True,
        }
        document = {"apiVersion": "edgetrain/v1", "kind": "Configuration", "metadata": {"name": "models"}}
        files = {
            "compute/runner.yaml": TARGET,
            MANIFEST: EXPERIMENT,
            "experiments/mean/train.py": SCRIPT,
            "models/mean/model.yaml": MODEL,
            ".gitignore": ".edgetrain/\n",
            ".github/allowed_signers": f"edgetrain@localhost {key.with_suffix('.pub').read_text()}",
            "edgetrain.yaml": json.dumps({**document, "spec": configuration}),
        }
        server.commit(REPOSITORY, "main", files, "Begin", by="pat")
        # The first clone is somebody's; from then on git has the App's credential alone.
        subprocess.run(["git", "clone", "--quiet", str(server.git_folder(REPOSITORY)), str(self.clone)], check=True)
        remote = ["git", "remote", "set-url", "origin", server.remote(REPOSITORY)]
        subprocess.run(remote, cwd=self.clone, check=True)

    def propose(self, branch: str, path: str, old: str, new: str, by: str = "dana") -> int:
        """A pull request that replaces a text."""
        self.change(branch, path, old, new, by, at="main")
        return self.server.open_pull(REPOSITORY, branch, by=by)

    def change(self, branch: str, path: str, old: str, new: str, by: str, at: str = "") -> None:
        show = ["git", "--git-dir", str(self.server.git_folder(REPOSITORY)), "show", f"{at or branch}:{path}"]
        text = subprocess.run(show, check=True, capture_output=True, text=True).stdout
        assert text.count(old) == 1, text
        self.server.commit(REPOSITORY, branch, {path: text.replace(old, new)}, "Change it", by=by)

    def merge(self, number: int, by: str = "pat") -> None:
        head = self.server.pull(REPOSITORY, number)["head"]["sha"]
        self.server.checks.add(REPOSITORY, head, "edgetrain", "success")
        self.server.merge(REPOSITORY, number, by=by)

    def proposed(self) -> int:
        """The one open pull request."""
        found = [one for one in self.server.issues(REPOSITORY) if one["state"] == "open"]
        assert len(found) == 1, found
        return int(found[0]["number"])

    def apply(self) -> None:
        result = apply(self.clone, Options(stop=threading.Event()), lambda event: None)
        assert result.good, result.results


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hospital]:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    with GithubServer() as server:
        made = Hospital(server, tmp_path)
        made.make(monkeypatch)
        yield made
        assert server.violations == []


def review_of(hand: Hand) -> Review:
    assert hand.review is not None
    return hand.review


def test_from_pull_requests_to_an_audit_and_back(hospital: Hospital) -> None:
    server = hospital.server
    number = hospital.propose("shift", MANIFEST, "shift: 0.5", "shift: 0.4")
    approval = server.review(REPOSITORY, number, by="rita")
    hospital.merge(number)
    hospital.apply()

    candidate = hospital.proposed()
    server.review(REPOSITORY, candidate, by="rita")
    branch = server.pull(REPOSITORY, candidate)["head"]["ref"]
    hospital.change(branch, "models/mean/model.yaml", "channels: {}", "channels: {production: 1}", by="dana")
    hospital.merge(candidate)
    hospital.apply()
    people = {login: server.account_id(login) for login in ("dana", "rita", "pat")}

    story = audit(hospital.clone, "mean@1")
    asked = review_of(story.source.proposed)
    assert (asked.pull_request, asked.proposer.id) == (number, people["dana"])
    assert [(one.id, one.login, one.counts) for one in asked.approvals] == [(people["rita"], "rita", True)]
    assert asked.approvals[0].commit == asked.head
    assert asked.merged_by is not None
    assert (asked.merged_by.id, dict(asked.checks)) == (people["pat"], {"edgetrain": "success"})
    released = review_of(story.approved)
    assert (released.pull_request, released.proposer.login) == (candidate, "edgetrain[bot]")
    assert [(one.login, one.why) for one in released.approvals] == [("rita", "StaleReview")]
    (move,) = story.moves
    assert review_of(move.hand) == released, "the same pull request moved the channel"
    doubts = {doubt.name: doubt.what for doubt in story.doubts}
    assert "rita approved an older head" in doubts["StaleApproval"]
    assert not {"ApprovalDiffers", "RecordUnsigned", "ApproverUnknown"} & set(doubts)
    assert f"rita (account {people['rita']})" in audit_text(story)

    found = verify(hospital.clone, None, forge=True)
    assert found.holds, [c for part in found.parts for c in part.checks if c.status is CheckStatus.FAIL]
    assert not [c for part in found.parts if part.kind == "pull request" for c in part.checks if c.reason]
    server.dismiss(REPOSITORY, approval)
    found = verify(hospital.clone, "mean@1", forge=True)
    assert not found.holds
    told = [c.message for part in found.parts for c in part.checks if c.status is CheckStatus.FAIL]
    assert told
    assert all(f"the approval of rita (account {people['rita']})" in line for line in told)


def test_changed_data_asks_for_a_review_there(hospital: Hospital) -> None:
    hospital.apply()
    (candidate,) = [one["number"] for one in hospital.server.issues(REPOSITORY)]
    hospital.server.close_issue(REPOSITORY, candidate, by="pat")
    (hospital.folder / "data" / "table" / "b.txt").write_text("4 5\n")

    def watch() -> str:
        (row,) = watch_data(hospital.clone, [], None, lambda event: None).rows
        return row.state

    assert (watch(), watch()) == ("proposed", "proposed")
    number = hospital.proposed()
    pull = hospital.server.pull(REPOSITORY, number)
    assert (pull["user"]["login"], pull["head"]["ref"]) == ("edgetrain[bot]", "edgetrain/data/mean")
    assert "| now | 2 |" in pull["body"]
    (hospital.folder / "data" / "table" / "b.txt").unlink()
    assert (watch(), watch()) == ("withdrawn", "same")
    assert hospital.server.pull(REPOSITORY, number)["state"] == "closed"
    assert hospital.server.branch(REPOSITORY, "edgetrain/data/mean") is None
