"""One byte changed anywhere: each place of a released site, and what `edgetrain verify` then names."""

from __future__ import annotations

import copy
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.digest import digest_bytes, digest_of, parse_canonical
from edgetrain.core.ports import CheckStatus
from edgetrain.core.record import serialise
from edgetrain.providers.mlflow.provider import MlflowWorkspace
from edgetrain.providers.oci_layout.provider import OciLayoutRegistry
from edgetrain.reconcile.verify import verify
from edgetrain.render.verify import Verification, verify_json, verify_text
from tests.apply.site import SmallSite
from tests.cli.command import edgetrain
from tests.outputs import sound

pytestmark = pytest.mark.needs("git>=2.34", "ssh-keygen")
MACHINE = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "edgetrain"), ("EMAIL", "edgetrain@localhost"))
}
OTHER = "sha256:" + "0" * 64
VERSION = "models/mean/versions/1.yaml"
RELEASED, MOVED = "models/mean/versions/1.release-1.json", "models/mean/versions/1.release-2.json"
Data = dict[str, Any]


class Released(SmallSite):
    """A site whose machine signs: version 1 in production, a later run that is not better, judged twice."""

    key: Path

    def grow(self) -> Released:
        """Everything that verify looks at."""
        self.key = self.clone.parent / "machine-key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        public = self.key.with_suffix(".pub").read_text()
        self.write(".github/allowed_signers", f'edgetrain@localhost namespaces="git" {public}')
        signing = f"  secrets: {{machine-key: {{source: {{file: '{self.key}'}}}}}}\n"
        signing += "  machine: {name: edgetrain, email: edgetrain@localhost, signingKey: {secret: machine-key}}\n"
        self.edit("edgetrain.yaml", "  allowUnsandboxed", signing + "  allowUnsandboxed")
        self.push("Sign records")
        self.release()
        self.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.8")
        self.push("Shift more")
        assert self.apply().good
        self.sync()
        self.edit("models/mean/model.yaml", "min: 0.1", "min: 0.3")
        self.push("Ask for more")
        assert self.apply().good
        self.sync()
        return self

    def path(self, kind: str, shift: float = 0.5) -> str:
        """The record of that kind, of the run with that shift."""
        runs = {p: r for p, r in self.records().items() if r["kind"] == "RunRecord"}
        [run] = [p for p, r in runs.items() if r["parameters"] == {"shift": shift}]
        if kind == "RunRecord":
            return run
        [found] = [p for p, r in self.records().items() if r["kind"] == kind and r["run"] == _digest(runs[run])]
        return found


def _digest(record: object) -> str:
    return digest_bytes(serialise(record).removesuffix(b"\n"))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    made = Released(tmp_path_factory.mktemp("flips") / "a site")
    made.make()
    return made.grow()


@pytest.fixture
def site(released: Released, tmp_path: Path) -> Released:
    """A clone whose main is its own."""
    copied = Released(tmp_path / "copy")
    copied.clone.parent.mkdir()
    run = ["git", "clone", "--quiet", "--no-hardlinks", str(released.remote), str(copied.clone)]
    subprocess.run(run, check=True)
    copied.state, copied.data, copied.key, copied.remote = (
        released.state,
        released.data,
        released.key,
        released.remote,
    )
    return copied


def git(site: Released, *arguments: str, **environment: str) -> str:
    """As somebody with the machine's name."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=site.clone,
        env={**os.environ, **MACHINE, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def own_main(site: Released) -> None:
    git(site, "remote", "remove", "origin")


def commit(site: Released, *options: str, signed: bool = False) -> None:
    """Commit everything; `signed` with the machine's own key."""
    git(site, "add", "--all")
    key = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={site.key}") if signed else ()
    git(site, *key, "commit", "--quiet", *(["-S"] if signed else []), *(options or ("-m", "Record something")))
    own_main(site)


def failed(found: Verification) -> dict[tuple[str, str], str]:
    return {
        (part.title, check.name): f"{check.message} {check.reason}"
        for part in found.parts
        for check in part.checks
        if check.status is CheckStatus.FAIL
    }


def untold(found: Verification) -> set[tuple[str, str]]:
    return {
        (check.name, check.reason)
        for part in found.parts
        for check in part.checks
        if check.status is CheckStatus.WARN
    }


def test_the_site_itself_holds(released: Released) -> None:
    found = verify(released.clone, None, deep=True)
    assert (failed(found), untold(found)) == ({}, set())
    assert found.answered
    assert edgetrain("verify", cwd=released.clone).code == 0


@pytest.mark.parametrize(
    "kind", ["RunRecord", "EvaluationRecord", "ProposalRecord", "released", "channel", "ModelVersion"]
)
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_a_flipped_byte_of_what_the_machine_wrote(site: Released, kind: str, signed: bool) -> None:
    """Whoever commits it, and wherever in the file it is."""
    paths = {"ModelVersion": VERSION, "released": RELEASED, "channel": MOVED}
    path = paths.get(kind) or site.path(kind, 0.8 if kind == "EvaluationRecord" else 0.5)
    file = site.clone / path
    whole = file.read_bytes()
    # A quote of a key, so that it is no JSON any more; and a digit of a digest, so that it is.
    inside = whole.index(b"sha256:") + 20
    for place in (1, inside) if kind != "ModelVersion" else (inside,):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        if place == inside:
            commit(site, signed=signed)
    wrong = failed(verify(site.clone, None))
    assert any(path in message for message in wrong.values()), wrong
    assert ("main", "files") in wrong


def changed(*path: str, to: Any) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = to

    return change


def own_gate(data: Data) -> None:
    data["gates"]["results"][0]["status"] = "failed"


CITED, LATER = ("RunRecord", 0.5), ("RunRecord", 0.8)
AS_THE_MACHINE = {
    "a metric of a cited run": (CITED, changed("metrics", "score", to=0.9), "version mean@1", "run-record"),
    "the ticket of a cited run": (CITED, changed("ticket", to=OTHER), "version mean@1", "run-record"),
    "a metric of another run": (LATER, changed("metrics", "score", to=0.9), "runs", "gates"),
    "an outcome": (LATER, changed("outcome", to="candidate"), "runs", "gates"),
    "a gate's verdict": (LATER, own_gate, "runs", "gates"),
    "the data of a run": (LATER, changed("inputs", "table", "digest", to=OTHER), "runs", "identity-told"),
    "the parameters of a run": (LATER, changed("parameters", "shift", to=0.7), "runs", "identity-told"),
    "the environment of a run": (LATER, changed("environment", "python", to="3.9"), "runs", "identity-told"),
    "the manifest of a run": (LATER, changed("manifest", to=OTHER), "runs", "manifest"),
    "who proposed a run": (LATER, changed("provenance", "proposer", to="Eve <eve@x>"), "runs", "provenance"),
    "who approved a run": (LATER, changed("provenance", "approvers", to=["Eve <eve@x>"]), "runs", "provenance"),
    "the merge of a run": (LATER, changed("provenance", "mergeCommit", to="1" * 40), "runs", "provenance"),
    "the run of a proposal": (
        ("ProposalRecord", 0.5), changed("run", to=OTHER), "references", "reference"
    ),
    "what a proposal supersedes": (
        ("ProposalRecord", 0.5), changed("supersedes", to=OTHER), "references", "reference"
    ),
    "the run of an evaluation": (("EvaluationRecord", 0.8), changed("run", to=OTHER), "references", "reference"),
    "the verdict of an evaluation": (
        ("EvaluationRecord", 0.8), changed("outcome", to="candidate"), "references", "gates"
    ),
    "the manifest of a release": ((RELEASED, 0), changed("manifest", to=OTHER), "version mean@1", "release-1"),
    "the run of a release": ((RELEASED, 0), changed("run", to=OTHER), "version mean@1", "release-1"),
    "who proposed a release": (
        (RELEASED, 0), changed("provenance", "proposer", to="Eve <eve@x>"), "version mean@1", "provenance"
    ),
    "the release of a move": ((MOVED, 0), changed("release", to=OTHER), "version mean@1", "release-2"),
    "the move before a move": ((MOVED, 0), changed("follows", to=OTHER), "channels mean", "channel"),
}  # fmt: skip


@pytest.mark.parametrize("case", AS_THE_MACHINE)
def test_what_records_say_is_recomputed_whoever_wrote_them(site: Released, case: str) -> None:
    """As only the machine could write it: what it refers to still says otherwise."""
    (kind, shift), change, title, name = AS_THE_MACHINE[case]
    path = kind if "/" in kind else site.path(kind, shift)
    data = parse_canonical((site.clone / path).read_bytes())
    change(data)
    (site.clone / path).write_bytes(serialise(data))
    commit(site, signed=True)
    wrong = failed(verify(site.clone, None))
    assert (title, name) in wrong, wrong


IDENTITIES = {
    "code": (changed("code", to=OTHER), "code"),
    "lock": (changed("requirements", to=OTHER), "lock"),
    "command": (changed("command", to="python other.py"), "identity-fields"),
    "seed": (changed("seed", to=2), "identity-fields"),
    "outputs": (changed("outputs", to={}), "identity-fields"),
    "image": (changed("image", to="base@" + OTHER), "identity-fields"),
}


def another(site: Released, change: Callable[[Data], None]) -> None:
    """A run record in perfect form of a run that never was."""
    data = copy.deepcopy(parse_canonical((site.clone / site.path("RunRecord", 0.8)).read_bytes()))
    change(data)
    of = data["identityOf"]
    data["identity"] = digest_of(of)
    data["environment"] = {key: of[key] for key in ("requirements", "image", "python", "platform")}
    name = data["identity"].removeprefix("sha256:")[:12]
    (site.clone / f"experiments/mean/runs/{name}-{data['attempt']}.json").write_bytes(serialise(data))
    commit(site, signed=True)


@pytest.mark.parametrize("part", IDENTITIES)
def test_an_invented_run_is_not_what_its_commit_held(site: Released, part: str) -> None:
    change, name = IDENTITIES[part]
    another(site, lambda data: change(data["identityOf"]))
    assert {name_ for _, name_ in failed(verify(site.clone, None))} >= {name}


def test_code_of_another_commit_or_of_one_that_main_never_had(site: Released) -> None:
    site.write("experiments/mean/train.py", "raise SystemExit\n")
    git(site, "checkout", "--quiet", "-b", "aside")
    git(site, "commit", "--quiet", "--all", "-m", "Another script")
    aside = git(site, "rev-parse", "HEAD").strip()
    git(site, "checkout", "--quiet", "main")

    def change(data: Data) -> None:
        data["commit"], data["attempt"] = aside, 2

    another(site, change)
    assert {name for _, name in failed(verify(site.clone, None))} == {"commit", "code", "given", "ticket"}


def test_a_missing_version_record_or_number(site: Released) -> None:
    (site.clone / VERSION).unlink()
    (site.clone / MOVED).rename(site.clone / MOVED.replace("release-2", "release-3"))
    commit(site)
    wrong = failed(verify(site.clone, None))
    assert ("references", "reference") in wrong
    assert "1.release-3.json" in wrong["main", "files"]


def test_a_signature_a_signer_or_a_passenger(site: Released) -> None:
    tip, later = git(site, "rev-parse", "HEAD").strip(), site.path("RunRecord", 0.8)
    main = ("main", "files")
    commit(site, "--amend", "--no-edit")  # the same record, without its signature
    assert "evaluation-1.json" in failed(verify(site.clone, None))[main]
    git(site, "reset", "--quiet", "--hard", tip)
    assert failed(verify(site.clone, None)) == {}

    signers = site.clone / ".github/allowed_signers"
    text = signers.read_text()
    at = text.index("AAAAC3") + 40
    signers.write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
    git(site, "commit", "--quiet", "--all", "-m", "Flip a key")
    assert main in failed(verify(site.clone, None))
    git(site, "reset", "--quiet", "--hard", tip)

    [run] = [file for file in site.clone.glob("experiments/mean/runs/*-1.json") if later.endswith(file.name)]
    data = parse_canonical(run.read_bytes())
    run.with_name(run.name.replace("-1.json", "-2.json")).write_bytes(serialise({**data, "attempt": 2}))
    site.write("README.md", "A passenger.\n")
    git(site, "add", "--all")
    key = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={site.key}")
    git(site, *key, "commit", "--quiet", "-S", "-m", "Record something")
    assert "README.md" in failed(verify(site.clone, None))[main]


def test_a_damaged_object_of_git_itself(site: Released) -> None:
    blob = git(site, "rev-parse", "HEAD:experiments/mean/train.py").strip()
    loose = site.clone / ".git/objects" / blob[:2] / blob[2:]
    for pack in site.clone.glob(".git/objects/pack/*.pack"):
        packed = pack.read_bytes()
        for suffix in (".idx", ".rev", ".pack"):
            pack.with_suffix(suffix).unlink(missing_ok=True)
        subprocess.run(["git", "unpack-objects", "-q"], cwd=site.clone, input=packed, check=True)
    data = loose.read_bytes()
    loose.chmod(0o600)
    loose.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    assert ("clone", "objects") in failed(verify(site.clone, None, deep=True))


@contextmanager
def flipped(file: Path) -> Iterator[None]:
    """One bit in the middle of a file, for a while."""
    data, mode = file.read_bytes(), file.stat().st_mode
    file.chmod(0o600)
    middle = len(data) // 2
    file.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    try:
        yield
    finally:
        file.write_bytes(data)
        file.chmod(mode)


def outside(released: Released) -> dict[str, str]:
    found = verify(released.clone, "mean@1", deep=True)
    return {name: message for (title, name), message in failed(found).items() if title == "outside mean@1"}


def test_every_stored_byte_of_an_image_and_the_artifacts(released: Released) -> None:
    release = parse_canonical((released.clone / RELEASED).read_bytes())
    layout = released.state / "images" / "mean"
    manifest = layout / "blobs/sha256" / release["image"]["digest"].removeprefix("sha256:")
    parsed = parse_canonical(manifest.read_bytes() + b"\n")
    blobs = {"image-config": [parsed["config"]], "image-layer": parsed["layers"]}
    assert len(parsed["layers"]) == 2
    with flipped(manifest):
        assert set(outside(released)) == {"image-manifest"}
    for name, descriptors in blobs.items():
        for place, descriptor in enumerate(descriptors, 1):
            with flipped(layout / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")):
                wrong = outside(released)
            assert set(wrong) == {name}
            assert name == "image-config" or f"layer {place} of 2" in wrong[name]
    stored = parse_canonical((released.clone / released.path("RunRecord")).read_bytes())["outputs"]["model"]
    digest = stored["files"][0]["digest"].removeprefix("sha256:")
    [artifact] = [f for f in (released.state / "artifacts").rglob("*") if digest in f"{f.parent.name}{f.name}"]
    with flipped(artifact):
        assert set(outside(released)) == {"artifact"}
    registry = OciLayoutRegistry(root=released.state / "images")
    tag = release["image"]["tags"][-1]
    registry.tag("mean", tag, None)
    assert "absent" in outside(released)["image-tag"]
    registry.tag("mean", tag, release["image"]["digest"])
    assert outside(released) == {}


def execute(released: Released, statement: str) -> None:
    """As somebody who may write in the workspace's database."""
    with sqlite3.connect(released.state / "mlflow.db") as connection:
        assert connection.execute(statement).rowcount > 0, statement
    connection.close()


LONGER, SHORTER = "value = value || 'x'", "value = substr(value, 1, length(value) - 1)"
WORKSPACE = {
    "run-metric": ("latest_metrics SET value = {} WHERE value = {}", "0.501", "0.5"),
    "run-parameter": ("params SET {} WHERE key = 'shift'", LONGER, SHORTER),
    "run-tag": ("tags SET {} WHERE key = 'edgetrain.identity'", LONGER, SHORTER),
    "run-entry": ("runs SET lifecycle_stage = {}", "'deleted'", "'active'"),
    "workspace-tag": ("model_version_tags SET {} WHERE key = 'edgetrain.digest'", LONGER, SHORTER),
    "workspace": ("model_version_tags SET {} WHERE key = 'edgetrain.version'", LONGER, SHORTER),
    "alias": ("registered_model_aliases SET alias = {}", "'elsewhere'", "'production'"),
}


@pytest.mark.parametrize("name", WORKSPACE)
def test_every_entry_of_the_workspace(released: Released, name: str) -> None:
    form, change, back = WORKSPACE[name]
    execute(released, "UPDATE " + form.format(change, back))
    try:
        found = verify(released.clone, None, deep=True)
    finally:
        execute(released, "UPDATE " + form.format(back, change))
    if name == "run-entry":  # people may delete it, and the record says the same: it can't be told
        assert untold(found) == {("run-entry", "EntryGone")}
        assert found.holds
    else:
        assert {name for _, name in failed(found)} == {name}
    if name in ("run-parameter", "run-tag"):  # those of the run that became no version, too
        assert {title for title, _ in failed(found)} == {"outside mean@1", "outside runs"}


def test_what_cant_be_told_is_neither_wrong_nor_well(released: Released, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", released.remote.as_uri(), str(shallow)], check=True)
    found = verify(shallow, None)
    assert found.holds
    assert {("manifest", "HistoryCutOff"), ("provenance", "HistoryCutOff")} <= untold(found)
    assert "what can be told holds" in verify_text(found)
    assert edgetrain("verify", cwd=shallow).code == 0


def test_erased_data_is_said_as_such(released: Released) -> None:
    table = released.data / "table"
    table.rename(released.data / "away")
    try:
        assert untold(verify(released.clone, "mean@1", deep=True)) == {("data", "DataGone")}
        table.mkdir()
        (table / "a.txt").write_text("7 8 9\n")
        found = verify(released.clone, "mean@1", deep=True)
        assert untold(found) == {("data", "DataChanged")}
        assert found.holds
    finally:
        shutil.rmtree(table, ignore_errors=True)
        (released.data / "away").rename(table)


def test_a_workspace_or_registry_that_does_not_answer(released: Released, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgetrain.core.errors import Transient

    def silent(*_: object) -> Any:
        raise Transient("nobody answers", reason="Unreachable", fix="try later")

    monkeypatch.setattr(MlflowWorkspace, "observe", silent)
    monkeypatch.setattr(MlflowWorkspace, "tracked", silent)
    monkeypatch.setattr(OciLayoutRegistry, "read", silent)
    found = verify(released.clone, None, deep=True)
    assert (found.holds, found.answered, failed(found)) == (True, False, {})
    assert untold(found) == {("not-asked", "Unreachable")}
    assert sound("verify", verify_json(found))["answered"] is False
    assert "could not be asked: nobody answers" in verify_text(found)


def test_a_registry_that_is_no_layout_is_a_mismatch(released: Released) -> None:
    index = released.state / "images/mean/index.json"
    kept = index.read_bytes()
    index.write_bytes(b"no index")
    try:
        ended = edgetrain("verify", "mean@1", "--deep", "--format", "json", cwd=released.clone)
    finally:
        index.write_bytes(kept)
    assert (ended.code, ended.json["holds"], ended.json["answered"]) == (1, False, False)
