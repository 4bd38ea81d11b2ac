"""`edgetrain doctor` on a real small site: what is well, what is broken, and how it is told."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.errors import Denied, Transient, UsageError
from edgetrain.core.ports import Attachment, Check, CheckStatus
from edgetrain.core.record import EvaluationRecord, RunRecord
from edgetrain.core.recorded import Recorded
from edgetrain.providers.local.provider import LocalCompute
from edgetrain.providers.mlflow.provider import MlflowWorkspace
from edgetrain.reconcile.doctor import examine, guarded, registered
from edgetrain.reconcile.doctor_scoring import scoring_checks
from edgetrain.reconcile.report import Event
from edgetrain.reconcile.state import read_work_tree
from edgetrain.render.doctor import (
    Diagnosis,
    Part,
    doctor_annotations,
    doctor_json,
    doctor_markdown,
    doctor_text,
)
from edgetrain.repo.git import Git
from tests import memory_forge
from tests.apply.azure_site import cluster, move_to_azure, place, serve, train_on_cluster
from tests.apply.evaluated import EvaluatedSite
from tests.apply.site import SmallSite
from tests.cli.command import edgetrain
from tests.core import test_planner_datastores as stores
from tests.memory_forge import MemoryForge
from tests.outputs import sound

KEY = """\
  machine: {name: m, email: m@example.org, signingKey: {secret: key}}
  secrets: {key: {source: {file: FILE}}}
"""


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    return SmallSite(tmp_path / "a site").make()


def look(site: SmallSite, target: str | None = None, events: list[Event] | None = None) -> Diagnosis:
    """What doctor finds there."""
    return examine(site.clone, target, None, ([] if events is None else events).append)


def failing(found: Diagnosis) -> dict[tuple[str, str], str]:
    """The reasons of the checks that failed, by part and check."""
    return {
        (part.title, check.name): check.reason
        for part in found.parts
        for check in part.checks
        if check.status is CheckStatus.FAIL
    }


def statuses(found: Diagnosis, name: str) -> set[CheckStatus]:
    """How the checks of a name went."""
    return {check.status for part in found.parts for check in part.checks if check.name == name}


def test_a_sound_site_passes_and_is_left_as_it_was(site: SmallSite) -> None:
    events: list[Event] = []
    found = look(site, events=events)
    assert failing(found) == {}
    assert [part.title for part in found.parts] == [
        "git", "artifacts", "workspace", "registry local", "datastore store", "target runner",
    ]  # fmt: skip
    assert statuses(found, "signing-key") == {CheckStatus.WARN}
    assert statuses(found, "isolation-network") == {CheckStatus.PASS}
    assert len([event for event in events if event.kind == "Examined"]) == len(found.parts)
    left = {file.relative_to(site.state).parts[0] for file in site.state.rglob("*") if file.is_file()}
    assert left <= {"mlflow.db", "mlflow.lock", "artifacts"}, left
    assert not list(site.state.glob("artifacts/sha256/**/*"))
    assert look(site, "runner").parts[-1].name == "runner"


def test_missing_data_is_told_by_store_and_target(site: SmallSite) -> None:
    shutil.rmtree(site.data / "table")
    found = failing(look(site))
    assert ("datastore store", "data-path") in found
    assert any(part == "target runner" for part, _ in found)
    ended = edgetrain("doctor", "runner", "--format", "json", cwd=site.clone)
    assert ended.code == 3
    assert ended.json["good"] is False
    assert ended.json["counts"]["fail"] == len(found)


def test_a_remote_that_is_gone_fails_and_the_rest_is_looked_at(site: SmallSite) -> None:
    site.remote.rename(site.remote.with_name("gone"))
    found = look(site)
    assert failing(found) == {("git", "git-branch"): "RemoteUnreachable"}
    assert statuses(found, "data-path") == {CheckStatus.PASS}


def test_without_a_remote_records_are_committed_here(site: SmallSite) -> None:
    subprocess.run(["git", "remote", "remove", "origin"], cwd=site.clone, check=True)
    assert failing(look(site)) == {}


def test_a_push_that_is_refused_is_told(site: SmallSite) -> None:
    subprocess.run(["git", "remote", "set-url", "--push", "origin", "/no/such/place"], cwd=site.clone, check=True)
    assert failing(look(site)) == {("git", "git-push"): "PushRefused"}


def test_the_quick_look_is_at_what_everything_needs(site: SmallSite, monkeypatch: pytest.MonkeyPatch) -> None:
    forge = memory_forge.serve(monkeypatch, MemoryForge())
    monkeypatch.setenv("HERE", "secret-value")
    secrets = (
        "  secrets: {{here: {{source: {{environment: HERE}}}}, away: {{source: {{environment: AWAY}}}}, {more}}}\n"
    )
    text = (site.clone / "edgetrain.yaml").read_text()
    exposed = site.state / "exposed"
    more = f"open: {{source: {{file: {json.dumps(str(exposed))}}}}}"
    site.write("edgetrain.yaml", text + memory_forge.block(forge) + secrets.format(more=more))
    site.push("Declare them")
    exposed.write_text("x")
    exposed.chmod(0o600)
    found = examine(site.clone, None, None, lambda event: None, quick=True)
    assert [part.title for part in found.parts] == ["git", "secrets", "forge", "artifacts", "datastore store"]
    assert found.good
    said = {check.message: check.status for check in found.parts[1].checks}
    assert said == {
        "secret away is not set: AWAY": CheckStatus.WARN,
        "here is here": CheckStatus.PASS,
        "open is here": CheckStatus.PASS,
    }
    assert "secret-value" not in doctor_text(found)
    assert {"forge", "workspace"} <= {part.kind for part in look(site).parts}

    exposed.chmod(0o644)
    forge.found.append(
        Check("forge-app", CheckStatus.FAIL, "the App is not installed", "NotInstalled", "install it")
    )
    found = examine(site.clone, None, None, lambda event: None, quick=True)
    assert failing(found) == {("secrets", "secret"): "SecretExposed", ("forge", "forge-app"): "NotInstalled"}
    forge.fail("diagnose", Transient("the forge does not answer", reason="Away"))
    assert failing(look(site))["forge", "forge"] == "Away"


def test_the_quick_look_finds_a_store_that_is_gone(site: SmallSite) -> None:
    shutil.rmtree(site.data)
    ended = edgetrain("doctor", "--quick", "--format", "json", cwd=site.clone)
    assert ended.code == 3
    assert [part["kind"] for part in ended.json["parts"]] == ["git", "artifacts", "datastore"]
    for wrong in (("runner",), ("--live",)):
        assert edgetrain("doctor", "--quick", *wrong, cwd=site.clone).code == 2


def test_the_credential_of_the_forge_is_tried_for_pushes(site: SmallSite, monkeypatch: pytest.MonkeyPatch) -> None:
    forge = memory_forge.serve(monkeypatch, MemoryForge())
    app = "    app: {id: '1', privateKey: {secret: app}}\n"
    secrets = "  secrets: {app: {source: {environment: APP}}}\n"
    text = (site.clone / "edgetrain.yaml").read_text()
    site.write("edgetrain.yaml", text + memory_forge.block(forge, app) + secrets)
    site.push("Push as the App")
    forge.pushes = {f"url.{site.remote.with_name('gone')}.pushInsteadOf": str(site.remote)}
    found = examine(site.clone, None, None, lambda event: None, quick=True)
    assert failing(found) == {("git", "git-push"): "PushRefused"}
    assert "push_settings" in forge.calls


def keyed(site: SmallSite, folder: Path) -> tuple[Path, str]:
    """A signing key, named in edgetrain.yaml; answers its file and its public half."""
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    site.edit(
        "edgetrain.yaml", "  allowUnsandboxed: true\n", "  allowUnsandboxed: true\n" + KEY.replace("FILE", str(key))
    )
    site.push("Sign records")
    return key, " ".join((folder / "key.pub").read_text().split()[:2])


def test_the_signing_key_must_be_there_private_and_listed(site: SmallSite, tmp_path: Path) -> None:
    key, public = keyed(site, tmp_path)
    assert failing(look(site)) == {("git", "signing-key"): "SignerMissing"}
    site.write(".github/allowed_signers", f"other@example.org {public}\n\nm@example.org ssh-ed25519 AAAA\n")
    site.push("List others")
    assert failing(look(site)) == {("git", "signing-key"): "SignerMissing"}
    site.write(".github/allowed_signers", f"m@example.org {public}\n")
    assert failing(look(site)) == {("git", "signing-key"): "SignerMissing"}, (
        "main's list counts, not the work tree's"
    )
    site.push("List it")
    assert failing(look(site)) == {}
    key.chmod(0o644)
    assert failing(look(site)) == {("git", "signing-key"): "KeyNotPrivate"}
    key.chmod(0o600)
    key.write_text("no key\n")
    assert failing(look(site)) == {("git", "signing-key"): "KeyNotReadable"}
    key.unlink()
    found = look(site)
    assert failing(found) == {("git", "git"): "SecretMissing"}
    assert statuses(found, "git-push") == {CheckStatus.PASS}


def test_a_workspace_that_is_a_link_and_images_in_a_file_fail(site: SmallSite) -> None:
    database = site.state / "mlflow.db"
    database.rename(site.state / "else.db")
    database.symlink_to(site.state / "else.db")
    (site.state / "images").write_text("a file")
    found = failing(look(site))
    assert found["workspace", "workspace"] == "Symlink"
    assert found["workspace", "workspace-write"] == "Symlink"
    assert {check for part, check in found if part == "registry local"} == {"registry", "registry-push"}


@pytest.mark.parametrize(("allowed", "status"), [(True, CheckStatus.WARN), (False, CheckStatus.FAIL)])
def test_a_runner_without_a_sandbox(tmp_path: Path, allowed: bool, status: CheckStatus) -> None:
    plain = LocalCompute(name="r", state=tmp_path, allow_unsandboxed=allowed, capacity={}, bwrap=lambda: None)
    [check] = [check for check in plain.diagnose() if check.name == "sandbox"]
    assert (check.status, check.reason) == (status, "SandboxMissing")


def test_declared_capacity_is_held_against_the_machine(tmp_path: Path) -> None:
    capacity = {"cpus": 100_000, "memory": 2**60, "gpus": 1, "slots": 1}
    large = LocalCompute(name="r", state=tmp_path / "not yet", allow_unsandboxed=True, capacity=capacity)
    bad = {check.name: check.reason for check in large.diagnose() if check.status is CheckStatus.FAIL}
    assert bad == {"cpus": "CapacityTooHigh", "memory": "CapacityTooHigh", "gpus": "GpuNotServed"}
    assert not (tmp_path / "not yet").exists()


def test_an_unknown_target_is_named(site: SmallSite) -> None:
    with pytest.raises(UsageError, match='did you mean "runner"'):
        look(site, "runer")
    assert edgetrain("doctor", "runer", cwd=site.clone).code == 2
    assert edgetrain("doctor", "--site", "there", cwd=site.clone).code == 2


def raising(error: Exception) -> Callable[[], Iterator[Check]]:
    """A look that tells one check and raises then."""

    def look_() -> Iterator[Check]:
        yield GOOD
        raise error

    return look_


GOOD = Check("first", CheckStatus.PASS, "well")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Denied("no", reason="KeyRefused", fix="another key"), "KeyRefused"),
        (PermissionError(13, "no"), "StorageDenied"),
        (ZeroDivisionError("secret in it"), "Unexpected"),
    ],
)
def test_what_raises_is_a_check_that_failed(error: Exception, reason: str) -> None:
    first, second = guarded("target", raising(error))
    assert first == GOOD
    assert second.status is CheckStatus.FAIL
    assert second.fix
    assert "secret" not in second.message
    if reason != "StorageDenied":
        assert second.reason == reason


FOUND = Diagnosis(
    "here",
    (
        Part("git", "", (GOOD,)),
        Part(
            "target",
            "gpu | 1",
            (
                Check(
                    "host-key", CheckStatus.FAIL, "seen SHA256:x\n::error::forged", "HostKeyChanged", "look | <b>"
                ),
                Check("clock", CheckStatus.WARN, "off by 3 s", "ClockSkew", "run ntp"),
            ),
        ),
    ),
)


def test_text() -> None:
    assert doctor_text(FOUND) == (
        "Doctor of site here: 1 passed, 1 warning, 1 failed\n\n"
        "git\n  pass  first     well\n\n"
        "target gpu | 1\n"
        "  FAIL  host-key  seen SHA256:x\\x0a::error::forged (HostKeyChanged)\n"
        "                fix: look | <b>\n"
        "  WARN  clock     off by 3 s (ClockSkew)\n"
        "                fix: run ntp\n"
    )


def test_markdown_has_what_failed_first_and_is_not_broken_out_of() -> None:
    rows = doctor_markdown(FOUND).splitlines()[4:]
    assert [row.split(" | ")[0] for row in rows] == ["| FAIL", "| WARN", "| pass"]
    assert all(row.count(" | ") == 5 for row in rows)
    assert "<b>" not in rows[0]


def test_json_and_annotations() -> None:
    told = sound("doctor", doctor_json(FOUND))
    assert (told["kind"], told["good"], told["counts"]) == ("Diagnosis", False, {"pass": 1, "warn": 1, "fail": 1})
    lines = doctor_annotations(FOUND).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["::error", "::warning", "::notice"]
    assert not any(line.startswith("::error::forged") for line in lines)


@pytest.mark.parametrize("format_", ["text", "json", "markdown", "github"])
def test_every_format_on_standard_output_and_progress_on_the_other(site: SmallSite, format_: str) -> None:
    ended = edgetrain("doctor", "--format", format_, cwd=site.clone)
    assert ended.code == 0
    assert "Examined" in ended.err
    assert "passed" in ended.out or '"pass"' in ended.out


def test_a_live_look_rehearses_in_the_workspace_and_leaves_it_as_it_was(site: SmallSite) -> None:
    assert not statuses(look(site), "live-run")
    for _ in range(2):
        found = examine(site.clone, None, None, [].append, live=True)
        assert failing(found) == {}
        assert [check.name for check in found.parts[-1].checks] == ["live-run", "live-model", "live-undo"]
    assert MlflowWorkspace(uri="", state=site.state).observe(["edgetrain-doctor-live"]) == {}


@pytest.mark.needs("bubblewrap")
def test_what_is_attached_is_told_by_target(site: SmallSite, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch)
    move_to_azure(site)
    site.write("compute/hub.yaml", cluster("hub"))
    checks = [check for part in look(site).parts for check in part.checks if check.name == "attached"]
    assert [(check.status, check.reason) for check in checks] == [(CheckStatus.WARN, "NotAttached")]
    site.push("Attach a cluster")
    site.apply()
    assert statuses(look(site), "attached") == {CheckStatus.PASS}
    held = place(site).held
    held["hub"] = replace(held["hub"], owner="")
    assert failing(look(site))["attachments", "attached"] == "P513"


def test_what_can_be_told_of_the_folder_that_a_clusters_pods_read_models_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch)
    site = EvaluatedSite(tmp_path / "a site").make()
    assert statuses(look(site), "scoring-mount") == statuses(look(site), "scoring-folder") == set()
    train_on_cluster(site)
    folder = site.state.resolve() / "scoring"

    def told() -> dict[str, tuple[CheckStatus, str]]:
        [part] = [part for part in look(site).parts if part.name == "hub"]
        return {c.name: (c.status, c.reason) for c in part.checks if c.name.startswith("scoring")}

    unseen = (CheckStatus.WARN, "NotSeen")
    assert told() == {"scoring-folder": (CheckStatus.WARN, "ScoringFolderMissing"), "scoring-mount": unseen}
    folder.touch()
    assert told()["scoring-folder"] == (CheckStatus.FAIL, "ScoringFolderUnfit")
    folder.unlink()
    folder.mkdir(mode=0o700)
    assert told() == {"scoring-folder": (CheckStatus.PASS, ""), "scoring-mount": unseen}

    # Held-out data is looked for as data of a training is.
    shutil.rmtree(site.data / "heldout")
    found = failing(look(site))
    assert ("datastore store", "data-path") in found and "target hub" in {part for part, _ in found}

    # What runs have found there stands in their records; the last word counts.
    state = read_work_tree(Git.find(site.clone))
    hub, mine = state.desired.targets["hub"], list(state.desired.experiments.values())

    def run(at: int, **data: Any) -> RunRecord:
        return RunRecord(f"{at}.json", {"kind": "RunRecord", "target": {"name": "hub"}, **data}, f"sha256:{at}", at)

    scored = {"evaluation": {"target": "hub", "metrics": {"error": 0.5}}}
    failed = {
        "reason": "EvaluationFailed",
        "message": "the evaluation failed: input model is not mounted in the pod",
    }
    again = EvaluationRecord("4.json", {"kind": "EvaluationRecord", "run": "sha256:2", **failed}, "sha256:4", 4)
    other = {"reason": "EvaluationFailed", "message": "the evaluation failed: exit code 1"}

    def said(*records: RunRecord | EvaluationRecord) -> str:
        checks = scoring_checks(state.desired, Recorded.of(records), site.state, hub, mine)
        return next(check.reason for check in checks if check.name == "scoring-mount")

    assert said(run(1, **other)) == "NotSeen"
    assert said(run(1, **other), run(2, **failed)) == "ScoringNotMounted"
    assert said(run(2, **failed), run(3, **scored)) == ""
    assert said(run(2, **failed), run(3, **scored), again) == "ScoringNotMounted"
    assert said(run(1, **{**failed, "target": {"name": "elsewhere"}})) == "NotSeen"


def test_which_datastores_the_workspace_knows_is_told() -> None:
    def told(*held: Attachment) -> list[tuple[CheckStatus, str]]:
        attached = stores.seen(*held).attachments
        assert attached is not None
        return [(check.status, check.reason) for check in registered(stores.STATE, attached)]

    ours = stores.HELD
    drifted = replace(ours, fields={**ours.fields, "credential": "AccountKey"})
    assert told() == [(CheckStatus.WARN, "NotAttached")]
    assert told(ours) == [(CheckStatus.PASS, "")]
    assert told(drifted, replace(ours, name="old")) == [
        (CheckStatus.WARN, "AttachmentDrifted"),
        (CheckStatus.WARN, "DatastoreRemoved"),
    ]
    assert told(replace(ours, owner="")) == [(CheckStatus.FAIL, "P516")]
