"""A site's repository with a recorded history, and pull requests to it as GitHub hands them to a workflow."""

from __future__ import annotations

import copy
import json
import subprocess
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from edgetrain.core.digest import digest_of
from edgetrain.core.planner import wanted_runs
from edgetrain.core.record import RunRecord, parse_record, run_path, serialise
from edgetrain.reconcile.pull_request import Asked, Checked, check_pull_request
from edgetrain.repo.dialect import validator
from edgetrain.repo.git import Git
from edgetrain.repo.load import read_repository
from edgetrain.repo.work_tree import WorkTree
from tests.reconcile import builders

SCHEMA = validator(json.loads((resources.files("edgetrain") / "schemas" / "report.schema.json").read_text()))
EXPERIMENT = "experiments/scan/experiment.yaml"
PERSON = ("Ada", "ada@example.org")
MACHINE = ("edgetrain", "edgetrain@localhost")
DAY = "2026-11-23"
DATA = "sha256:" + "da" * 32
NEW_DATA = "sha256:" + "0e" * 32

FILES = {
    "edgetrain.yaml": """\
apiVersion: edgetrain/v1
kind: Configuration
metadata: {name: edgetrain, owners: ["@hosp/platform"]}
spec:
  forge: {type: github, repository: hosp/models}
  sites:
    ward:
      state: /srv/edgetrain
      datastores:
        scans: {type: folder, path: /data}
  limits:
    deletions: {absolute: 3, relative: 0.3}
""",
    "compute/runner.yaml": """\
apiVersion: edgetrain/v1
kind: ComputeTarget
metadata: {name: runner, owners: ["@hosp/platform"]}
spec: {type: local, site: ward}
""",
    "experiments/scan/experiment.yaml": f"""\
apiVersion: edgetrain/v1
kind: Experiment
metadata: {{name: scan, owners: ["@hosp/ds"]}}
spec:
  model: triage
  compute: runner
  command: python train.py --data ${{{{inputs.images}}}} --lr ${{{{inputs.lr}}}} --out ${{{{outputs.model}}}}
  inputs:
    images: {{type: uri_folder, datastore: scans, path: cxr/, digest: "{DATA}"}}
    lr: 0.1
  outputs:
    model: {{type: custom_model, path: model.onnx, maxSize: 5Mi}}
  metrics: [auroc]
  limits: {{timeout: 1h}}
  seed: 42
""",
    "experiments/scan/train.py": "print('training')\n",
    "models/triage/model.yaml": """\
apiVersion: edgetrain/v1
kind: Model
metadata: {name: triage, owners: ["@hosp/radiology-ai"]}
spec:
  card: {intendedPurpose: Orders the reading list., riskClass: high}
  gates:
    - {metric: auroc, goal: maximize, min: 0.8}
""",
    ".github/CODEOWNERS": "* @hosp/everybody\n/edgetrain.yaml @hosp/platform\n/models/ @hosp/radiology-ai @grace\n",
}


@dataclass
class Proposal:
    """A pull request as a workflow finds it: `root` is the clone, with `commit` checked out, detached."""

    root: Path
    number: int
    head: str
    base: str
    commit: str

    def check(self) -> Checked:
        """What `edgetrain github check` finds."""
        return check_pull_request(self.root, Asked(self.number, self.head, self.base, DAY))


@dataclass
class Hub:
    """The repository on the forge, and people and machine at work in it."""

    root: Path
    clones: int = field(default=0)

    def git(self, *arguments: str, who: tuple[str, str] = PERSON, at: Path | None = None) -> str:
        """Run git; answer its output."""
        identity = ("-c", f"user.name={who[0]}", "-c", f"user.email={who[1]}")
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=at or self.root, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, files: dict[str, str | bytes | None], who: tuple[str, str] = PERSON) -> str:
        """Write these files (None removes one) and commit everything."""
        for path, text in files.items():
            place = self.root / path
            if text is None:
                place.unlink()
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "-m", "A change", who=who)
        return self.git("rev-parse", "HEAD")

    def edit(self, path: str, old: str, new: str) -> dict[str, str | bytes | None]:
        """The file with one text in another's place."""
        text = (self.root / path).read_text()
        assert old in text
        return {path: text.replace(old, new)}

    def record(self, seconds: float = 245, attempt: int = 1, **changes: Any) -> RunRecord:
        """The machine records that main's run of `scan` ended; `changes` replace parts of the record."""
        loaded = read_repository(WorkTree(Git(self.root)))
        assert loaded.desired is not None
        (wanted,) = wanted_runs(loaded.desired, loaded.recorded, None)
        of = {**wanted.of, "python": "3.11", "platform": "linux/amd64"}
        value = copy.deepcopy(dict(builders.run().data))
        images = {**value["inputs"]["images"], "digest": of["inputs"]["images"]}
        value |= {
            "identityOf": of,
            "identity": digest_of(of),
            "attempt": attempt,
            "commit": self.git("rev-parse", "HEAD"),
            "parameters": of["parameters"],
            "environment": {key: of[key] for key in ("requirements", "image", "python", "platform")},
            "inputs": {"images": images},
            "seconds": seconds,
            **changes,
        }
        path = run_path("scan", value["identity"], attempt)
        data = serialise(value)
        self.commit({path: data}, MACHINE)
        found = parse_record(path, data)
        assert isinstance(found, RunRecord)
        return found

    def propose(
        self, files: dict[str, str | bytes | None], *, merge: bool = True, onto: str = "main", depth: int = 0
    ) -> Proposal:
        """Somebody proposes a change of main; the clone that a workflow makes of it."""
        base = self.git("rev-parse", "main")
        self.git("checkout", "--quiet", "-B", "change", onto)
        head = self.commit(files)
        commit = head
        if merge:
            self.git("checkout", "--quiet", "--detach", "main")
            self.git("merge", "--quiet", "--no-ff", "-m", f"Merge {head} into {base}", head)
            commit = self.git("rev-parse", "HEAD")
        self.git("update-ref", "refs/pull/7/merge", commit)
        self.git("checkout", "--quiet", "main")
        return self.clone(head, base, commit, depth)

    def clone(self, head: str, base: str, commit: str, depth: int = 0) -> Proposal:
        """As actions/checkout does it: one ref fetched, its commit checked out, detached."""
        self.clones += 1
        root = self.root.parent / f"proposal-{self.clones}"
        root.mkdir()
        self.git("init", "--quiet", ".", at=root)
        self.git("remote", "add", "origin", self.root.as_uri(), at=root)
        whole = ("+refs/heads/main:refs/remotes/origin/main", commit)
        asked = (f"--depth={depth}", base, commit) if depth else whole
        self.git("-c", "protocol.version=2", "fetch", "--quiet", "--no-tags", "origin", *asked, at=root)
        self.git("checkout", "--quiet", "--detach", commit, at=root)
        return Proposal(root, 7, head, base, commit)


def hub(folder: Path) -> Hub:
    """A repository on main with one experiment, and no run yet."""
    made = Hub(folder / "hub")
    made.root.mkdir()
    made.git("init", "--quiet", "-b", "main", ".")
    made.git("config", "uploadpack.allowAnySHA1InWant", "true")
    made.commit(dict(FILES))
    return made


def text_of(checked: Checked) -> str:
    """The whole report, to look for something in it."""
    return json.dumps(checked.report)


def with_records(folder: Path) -> Hub:
    """A repository whose one experiment ran twice, and is as it was the first time."""
    made = hub(folder)
    made.record(seconds=200)
    made.commit(made.edit(EXPERIMENT, "lr: 0.1", "lr: 0.3"))
    made.record(seconds=300)
    made.commit(made.edit(EXPERIMENT, "lr: 0.3", "lr: 0.1"))
    return made


def sound(checked: Checked) -> dict[str, Any]:
    """The report, which holds to its schema and is the same as it is written and read."""
    assert not [error.message for error in SCHEMA.iter_errors(checked.report)]
    report: dict[str, Any] = json.loads(json.dumps(checked.report))
    return report


def reasons(report: dict[str, Any]) -> list[str]:
    return [one["reason"] for one in report["attention"]]


def codes(checked: Checked) -> list[tuple[str, str]]:
    return [(found.path, found.code) for found in checked.problems]
