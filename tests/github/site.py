"""A site's repository on the stand-in for GitHub, driven by its own workflows alone: no test calls edgetrain."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from edgetrain.core.digest import parse_canonical
from edgetrain.core.ports import Registry
from edgetrain.providers.oci_layout.provider import OciLayoutRegistry
from testbed.actions.driver import Actions
from testbed.actions.run import Run
from testbed.github import GithubServer
from tests.apply.site import EXPERIMENT, MODEL, SCRIPT, TARGET, empty_workspace
from tests.github.files import GITHUB, ROOT

REPOSITORY = "hosp/models"
DANA, RITA, PAT = "dana", "rita", "pat"  # a data scientist, her reviewer, a platform engineer
BOT = "edgetrain[bot]"
SETUP = GITHUB / "actions" / "setup"
# What the site's runner has in its unit's environment.
RUNNER = {
    "ACTIONS_RUNNER_HOOK_JOB_STARTED": str(ROOT / "docs" / "runner" / "job-started.sh"),
    "EDGETRAIN_REPOSITORY": REPOSITORY,
}


def prepared() -> dict[str, Path]:
    """The environment that runs these tests, under the names by which the setup action looks for its packages."""
    version = "{}.{}".format(*sys.version_info)
    locks = [SETUP / "requirements.lock", SETUP / "requirements-azureml.lock"]
    keys = [hashlib.sha256(lock.read_bytes() + version.encode()).hexdigest() for lock in locks]
    return {f"packages-{key}": Path(sys.prefix) for key in keys}


def own_files() -> dict[str, bytes]:
    """This repository's workflows, actions and package, as a site's repository has them."""
    found = {}
    for folder in (GITHUB / "workflows", GITHUB / "actions", ROOT / "tools" / "edgetrain"):
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts and file.name != "tests.yml":
                found[file.relative_to(ROOT).as_posix()] = file.read_bytes()
    return found


class GithubSite:
    """A context manager: the stand-in, the repository with an App, people and protection, and the site's runner."""

    def __init__(self, folder: Path, **actions: Any) -> None:
        self.folder = folder
        self.state, self.data = folder / "state", folder / "data"
        self.secrets: dict[str, str] = {}
        self.server = GithubServer()
        self.driver: dict[str, Any] = {"site": RUNNER, **actions}
        self.actions: Actions
        self.app = 0

    def __enter__(self) -> Self:
        self.server.__enter__()
        try:
            self.make()
            self.actions = Actions(self.server, REPOSITORY, packages=prepared(), **self.driver)
            self.actions.__enter__()
            for name, value in self.secrets.items():
                self.secret(name, value)
        except BaseException:
            self.server.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.actions.__exit__(kind, error, trace)
        finally:
            self.server.close()

    def make(self) -> None:
        """The repository, before anything wakes a workflow."""
        (self.data / "table").mkdir(parents=True)
        (self.data / "table" / "a.txt").write_text("1 2 3\n")
        self.state.mkdir()
        shutil.copy2(empty_workspace(), self.state / "mlflow.db")
        self.server.create_repository(REPOSITORY)
        for login, role in ((DANA, "write"), (RITA, "write"), (PAT, "maintain")):
            self.server.user(login, {REPOSITORY: role})
        self.app, self.secrets["app-key"] = self.server.app("edgetrain", repositories=[REPOSITORY])
        signing = self.folder / "machine"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", signing], check=True)
        self.secrets["machine-key"] = signing.read_text()
        files: dict[str, str | bytes | None] = {
            **self.files(),
            **self.manifests(),
            ".github/allowed_signers": f"edgetrain@localhost {Path(f'{signing}.pub').read_text()}",
            "edgetrain.yaml": self.document("Configuration", "models", self.configuration()),
        }
        self.server.commit(REPOSITORY, "main", files, "Begin", by=PAT)
        self.server.protect(REPOSITORY, kind="ruleset", approvals=1, bypass_apps=[self.app])

    def secret(self, name: str, value: str) -> None:
        """A secret as a file of the site's runner, where no job of another machine finds it."""
        file = self.actions.home / "secrets" / name
        file.parent.mkdir(mode=0o700, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(value)

    @staticmethod
    def document(kind: str, name: str, spec: Mapping[str, Any]) -> str:
        """A manifest."""
        return json.dumps(
            {"apiVersion": "edgetrain/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}, indent=2
        )

    def files(self) -> dict[str, Any]:
        """What is no manifest."""
        return own_files()

    def manifests(self) -> dict[str, str]:
        """What data scientists and platform engineers wrote."""
        return {
            "compute/runner.yaml": TARGET,
            "experiments/mean/experiment.yaml": EXPERIMENT,
            "experiments/mean/train.py": SCRIPT,
            "models/mean/model.yaml": MODEL,
        }

    def configuration(self) -> dict[str, Any]:
        """The `spec` of edgetrain.yaml."""
        sources = {name: {"source": {"file": f"~/secrets/{name}"}} for name in self.secrets}
        return {
            "forge": {
                "type": "github",
                "repository": REPOSITORY,
                "server": self.server.url,
                "api": self.server.api,
                "app": {"id": str(self.app), "privateKey": {"secret": "app-key"}},
                "token": {"secret": "workflow-token"},
            },
            "sites": {
                "here": {
                    "state": str(self.state),
                    "datastores": {"store": {"type": "folder", "path": str(self.data)}},
                }
            },
            "secrets": {**sources, "workflow-token": {"source": {"environment": "GITHUB_TOKEN"}}},
            "machine": {"signingKey": {"secret": "machine-key"}},
            "proxy": {"caBundle": str(self.server.ca)},
            "allowUnsandboxed": True,
        }

    # What people do

    def read(self, path: str, at: str = "main") -> str:
        """A file of a branch or commit."""
        return self.actions.bare.git("show", f"{at}:{path}")

    def propose(
        self, files: Mapping[str, str | bytes | None], *, title: str = "Change", branch: str = "", by: str = DANA
    ) -> int:
        """A pull request with these files."""
        name = branch or f"{by}/{len(self.server.issues(REPOSITORY)) + 1}"
        self.server.commit(REPOSITORY, name, files, title, by=by)
        return self.server.open_pull(REPOSITORY, name, by=by, title=title)

    def edited(self, path: str, old: str, new: str) -> dict[str, str]:
        """The file of main with a text replaced that is there once."""
        text = self.read(path)
        assert text.count(old) == 1, (path, old)
        return {path: text.replace(old, new)}

    def pointing(self, number: int) -> dict[str, str]:
        """The model's manifest with production at a version."""
        text = self.read("models/mean/model.yaml")
        [line] = [line for line in text.splitlines() if line.startswith("  channels:")]
        return {"models/mean/model.yaml": text.replace(line, f"  channels: {{production: {number}}}")}

    def approve_and_merge(self, number: int, *, by: str = RITA) -> str:
        """A reviewer looks at it, and merges it; the new commit on main."""
        self.server.review(REPOSITORY, number, by=by)
        return self.server.merge(REPOSITORY, number, by=by)

    # What happens at the site

    def put(self, name: str, text: str) -> None:
        """A file comes to the private data, or changes."""
        (self.data / "table" / name).write_text(text)

    def runs(self) -> list[Path]:
        """The folders of runs at the target that have not ended; of the others what they said stays there."""
        return sorted(folder.parent for folder in (self.state / "runs").glob("*/outputs"))

    def held_run(self) -> str:
        """The id of the one run at the target."""
        [folder] = self.runs()
        return folder.name

    def let_go(self) -> None:
        """The one run at the target, which waits for it, may end."""
        [folder] = self.runs()
        (folder / "outputs" / "leave").touch()

    @property
    def images(self) -> str:
        """The repository of the model's images."""
        return "mean"

    def registry(self) -> Registry:
        """Where the images are."""
        return OciLayoutRegistry(root=self.state / "images")

    def tags(self) -> dict[str, str]:
        """The digests by tag that the registry has for the model."""
        return dict(self.registry().tags(self.images))

    def tickets(self) -> list[str]:
        """The runs that the site holds for under way."""
        folder = self.state / "artifacts" / "claims" / "tickets"
        return [file.name for file in folder.rglob("*") if file.is_file()] if folder.is_dir() else []

    # What is there afterwards

    def only(self, file: str, since: int = 0) -> Run:
        """The one run of a workflow after so many."""
        [run] = self.actions.of(file)[since:]
        return run

    def settle(self) -> None:
        """Until all workflows that were woken have ended."""
        self.actions.settle()

    def comment(self, number: int, part: str = "") -> str:
        """The one comment on a pull request that has the text in it."""
        found = [one["body"] for one in self.server.comments(REPOSITORY, number) if part in one["body"]]
        assert len(found) == 1, found
        return str(found[0])

    def records(self) -> dict[str, dict[str, Any]]:
        """Every record and version on main, by path."""
        listed = self.actions.bare.git("ls-tree", "-r", "--name-only", "main").splitlines()
        names = [name for name in listed if name.startswith(("experiments/", "models/"))]
        return {name: parse_canonical(self.read(name).encode()) for name in names if name.endswith(".json")}

    def kept_report(self, artifact: int) -> dict[str, Any]:
        """What lies in an artifact: one file, with JSON."""
        data = (self.server.store.folder / "artifacts" / f"{artifact}.zip").read_bytes()
        with zipfile.ZipFile(BytesIO(data)) as archive:
            [name] = archive.namelist()
            return dict(json.loads(archive.read(name)))

    def version(self, number: int) -> dict[str, Any]:
        """A version's manifest on main."""
        return dict(yaml.safe_load(self.read(f"models/mean/versions/{number}.yaml")))

    def commits_of(self, path: str) -> int:
        """How many commits of main touch the path."""
        return len(self.actions.bare.git("log", "--format=%H", "main", "--", path).split())

    def pulls(self, state: str = "open") -> list[dict[str, Any]]:
        """The pull requests in this state."""
        found = [one for one in self.server.issues(REPOSITORY) if "pull_request" in one]
        return [self.server.pull(REPOSITORY, one["number"]) for one in found if one["state"] == state]

    def issues(self) -> list[dict[str, Any]]:
        """The issues that are no pull requests."""
        return [one for one in self.server.issues(REPOSITORY) if "pull_request" not in one]
