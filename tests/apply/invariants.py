"""What must hold of a site after anything that may happen to it, checked without any of edgetrain's own code.

Git is asked by its plumbing, stores are read as files, digests are computed here. Each function yields sentences
about what does not hold.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient

RECORD = re.compile(
    r"experiments/[^/]+/runs/[0-9a-f]{12}-\d+(\.evaluation-\d+)?\.json"
    r"|models/[^/]+/(versions/\d+\.release-\d+|proposals/\d+-[0-9a-f]{12}-\d+)\.json"
)
VERSION = re.compile(r"models/([^/]+)/versions/(\d+)\.yaml")
MACHINE = "edgetrain@localhost"
SETTLED = {"candidate", "not_better", "failed", "rejected", "cancelled"}


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Repository:
    """The remote's main, read by git alone."""

    def __init__(self, remote: Path) -> None:
        self.remote = remote
        listed = self.git("ls-tree", "-r", "-z", "--name-only", "main").decode().split("\0")
        self.files = {name: self.git("show", f"main:{name}") for name in listed if name}
        self.records = {path: json.loads(data) for path, data in self.files.items() if RECORD.fullmatch(path)}
        self.models = {
            path.split("/")[1]: yaml.safe_load(data)["spec"]
            for path, data in self.files.items()
            if path.endswith("/model.yaml")
        }
        self.versions = {
            (found[1], int(found[2])): yaml.safe_load(data)["spec"]
            for path, data in self.files.items()
            if (found := VERSION.fullmatch(path))
        }
        named = self.git("for-each-ref", "--format=%(refname)", "refs/heads/edgetrain/proposal/").decode().split()
        # What each open proposal cites.
        self.proposed = {name: self._cited(name) for name in named}

    def _cited(self, branch: str) -> str:
        model, _, number = branch.removeprefix("refs/heads/edgetrain/proposal/").rpartition("-")
        manifest = self.git("show", f"{branch}:models/{model}/versions/{number}.yaml")
        return str(yaml.safe_load(manifest)["spec"]["run"]["record"])

    def git(self, *arguments: str) -> bytes:
        return subprocess.run(["git", "-C", str(self.remote), *arguments], check=True, capture_output=True).stdout

    def of(self, kind: str) -> dict[str, Any]:
        """The records of one kind, by path."""
        return {path: record for path, record in self.records.items() if record["kind"] == kind}

    def digest(self, path: str) -> str:
        """A record's digest: over its bytes without the newline."""
        return sha256(self.files[path].removesuffix(b"\n"))

    def channels(self, model: str) -> Mapping[str, int]:
        """Where the model's manifest points its channels."""
        channels: Mapping[str, int] = self.models[model].get("channels", {})
        return channels


def records(repo: Repository) -> Iterator[str]:
    """Records are canonical, written once, by the machine, in commits that touch nothing else."""
    for path, record in repo.records.items():
        plain = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        # Numbers are written alike here: the site's scripts make none that JSON's writers tell differently.
        if plain != repo.files[path] and not _odd_numbers(record):
            yield f"{path} is not canonical"
    touched: Counter[str] = Counter()
    log = repo.git("log", "--first-parent", "-m", "--no-renames", "--format=%x01%H %ce", "--name-status", "main")
    for entry in log.decode().split("\x01")[1:]:
        head, *lines = entry.splitlines()
        commit, mail = head.split(" ", 1)
        changed = dict(reversed(line.split("\t", 1)) for line in lines if line)
        written = {path for path in changed if RECORD.fullmatch(path)}
        touched.update(written)
        for path in written:
            if changed[path] != "A":
                yield f"{commit} changed {path}"
        if written and mail != MACHINE:
            yield f"{commit} of {mail} wrote {sorted(written)}"
        if written and set(changed) != written:
            yield f"{commit} wrote records and {sorted(set(changed) - written)}"
    for path, count in touched.items():
        if count != 1:
            yield f"{path} was written {count} times"


def _odd_numbers(value: Any) -> bool:
    """Whether a number in it is one that RFC 8785 and Python write differently."""
    if isinstance(value, dict):
        return any(map(_odd_numbers, value.values()))
    if isinstance(value, list):
        return any(map(_odd_numbers, value))
    return isinstance(value, float) and (value == int(value) or abs(value) < 1e-6 or abs(value) >= 1e16)


def runs(repo: Repository, asked: Counter[str]) -> Iterator[str]:
    """An identity is the digest of what it is made of, and is tried again only if lost, or if a person asked:
    `asked` counts by `<experiment>-<identity12>`."""
    attempts: dict[str, dict[int, Any]] = {}
    for path, run in repo.of("RunRecord").items():
        plain = json.dumps(run["identityOf"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        if not _odd_numbers(run["identityOf"]) and sha256(plain.encode()) != run["identity"]:
            yield f"{path}: its identity is not the digest of its parts"
        key = f"{run['experiment']}-{run['identity'].removeprefix('sha256:')[:12]}"
        attempts.setdefault(key, {})[run["attempt"]] = run
    for key, found in attempts.items():
        if sorted(found) != list(range(1, len(found) + 1)):
            yield f"{key} has the attempts {sorted(found)}"
        again = [number for number, run in found.items() if run["outcome"] in SETTLED and number + 1 in found]
        if len(again) > asked[key]:
            yield f"{key} was settled and trained again {len(again)} times; asked for: {asked[key]}"


def versions(repo: Repository) -> Iterator[str]:
    """Numbers have no gap, each version stands on one run, and what it repeats is what the record says."""
    by_digest = {repo.digest(path): record for path, record in repo.of("RunRecord").items()}
    for model in repo.models:
        numbers = sorted(number for name, number in repo.versions if name == model)
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{model} has the versions {numbers}"
    cited = Counter(spec["run"]["record"] for spec in repo.versions.values())
    yield from (f"{digest} stands behind {count} versions" for digest, count in cited.items() if count > 1)
    for (model, number), spec in repo.versions.items():
        run = by_digest.get(spec["run"]["record"])
        if run is None:
            yield f"{model}@{number} cites a record that is not there"
        elif (run["model"], run["identity"], run["metrics"]) != (model, spec["run"]["identity"], spec["metrics"]):
            yield f"{model}@{number} is not what its record says"


def proposals(repo: Repository) -> Iterator[str]:
    """What is proposed is a candidate by its last verdict, and no version yet."""
    runs = {repo.digest(path): record["outcome"] for path, record in repo.of("RunRecord").items()}
    judged = sorted(repo.of("EvaluationRecord").values(), key=lambda record: record["number"])
    runs |= {record["run"]: record["outcome"] for record in judged}
    merged = {spec["run"]["record"] for spec in repo.versions.values()}
    for branch, cited in repo.proposed.items():
        if runs.get(cited) != "candidate" or cited in merged:
            yield f"{branch} proposes what is {runs.get(cited)}{' and merged' if cited in merged else ''}"


def releases(repo: Repository) -> Iterator[str]:
    """Each merged version is released once, and each channel's recorded moves end where its manifest points."""
    released: Counter[tuple[str, int]] = Counter()
    heads: dict[tuple[str, str], dict[str, Any]] = {}
    for path, record in repo.of("ReleaseRecord").items():
        key = record["model"], record["version"]
        if key not in repo.versions:
            yield f"{path} is of a version that is not there"
        elif record["manifest"] != sha256(repo.files[f"models/{key[0]}/versions/{key[1]}.yaml"]):
            yield f"{path} names another manifest"
        if record["event"] == "released":
            released[key] += 1
        if record["event"] == "channel":
            moves = heads.setdefault((record["model"], record["channel"]), {})
            moves[repo.digest(path)] = record
    for key in repo.versions:
        if released[key] != 1:
            yield f"{key[0]}@{key[1]} was released {released[key]} times"
    for (model, channel), moves in heads.items():
        ends = set(moves) - {move["follows"] for move in moves.values()}
        if len(ends) != 1 or len({move["follows"] for move in moves.values()}) != len(moves):
            yield f"the moves of {model}/{channel} are no chain"
        elif moves[ends.pop()]["to"] != repo.channels(model).get(channel):
            yield f"{model}/{channel} is not where its manifest points"


def registry(repo: Repository, images: Path) -> Iterator[str]:
    """Tags lead where records and channels say, and every blob is of its digest."""
    for model in repo.models:
        released = {
            record["version"]: record["image"]
            for record in repo.of("ReleaseRecord").values()
            if record["model"] == model and record["event"] == "released"
        }
        if not released:
            continue
        layout = images / model
        listed = json.loads((layout / "index.json").read_text())["manifests"]
        tags = [
            (entry["annotations"]["org.opencontainers.image.ref.name"], entry["digest"])
            for entry in listed
            if "org.opencontainers.image.ref.name" in entry.get("annotations", {})
        ]
        if len(dict(tags)) != len(tags):
            yield f"{model} has a tag twice"
        wanted = {tag: image["digest"] for image in released.values() for tag in image["tags"]}
        wanted |= {name: released[number]["digest"] for name, number in repo.channels(model).items()}
        if dict(tags) != wanted:
            yield f"{model}'s tags are {dict(tags)}, and should be {wanted}"
        for blob in (layout / "blobs" / "sha256").iterdir():
            if hashlib.sha256(blob.read_bytes()).hexdigest() != blob.name:
                yield f"{blob} is not of its digest"


def workspace(repo: Repository, database: Path) -> Iterator[str]:
    """Every recorded run is there once, every released version is registered once, aliases are the channels."""
    client = MlflowClient(f"sqlite:///{database}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    seen: Counter[str] = Counter()
    token: str | None = None
    while True:
        page = client.search_runs(experiments, max_results=1000, page_token=token)
        seen.update(run.data.tags["edgetrain.run"] for run in page)
        token = page.token
        if not token:
            break
    wanted = Counter(
        f"{run['experiment']}-{run['identity'].removeprefix('sha256:')[:12]}-{run['attempt']}"
        for run in repo.of("RunRecord").values()
    )
    if seen != wanted:
        yield f"runs in the workspace that should not be: {seen - wanted}; that are missing: {wanted - seen}"
    for model in repo.models:
        found = client.search_model_versions(f"name='{model}'")
        numbers = Counter(int(version.tags["edgetrain.version"]) for version in found)
        if numbers != Counter(number for name, number in repo.versions if name == model):
            yield f"the workspace has of {model} the versions {sorted(numbers.elements())}"
        by_version = {str(version.version): int(version.tags["edgetrain.version"]) for version in found}
        aliases = {
            alias: by_version.get(str(version))
            for registered in client.search_registered_models(f"name='{model}'")
            for alias, version in registered.aliases.items()
        }
        if aliases != dict(repo.channels(model)):
            yield f"{model}'s aliases are {aliases}, and should be {dict(repo.channels(model))}"


def artifacts(repo: Repository, store: Path) -> Iterator[str]:
    """What versions are made of is in the store, and everything there is of its digest."""
    there = set()
    for file in (store / "blobs" / "sha256").rglob("*"):
        if file.is_file():
            digest = sha256(file.read_bytes())
            if digest.removeprefix("sha256:") != file.name:
                yield f"{file} is not of its digest"
            there.add(digest)
    for (model, number), spec in repo.versions.items():
        for output in spec["artifacts"].values():
            for file in output["files"]:
                if file["digest"] not in there:
                    yield f"{model}@{number}: {file['path']} is lost"


def broken(remote: Path, state: Path, asked: Counter[str]) -> list[str]:
    """All that does not hold."""
    repo = Repository(remote)
    return [
        *records(repo),
        *runs(repo, asked),
        *versions(repo),
        *proposals(repo),
        *releases(repo),
        *registry(repo, state / "images"),
        *workspace(repo, state / "mlflow.db"),
        *artifacts(repo, state / "artifacts"),
    ]
