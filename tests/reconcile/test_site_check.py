"""`init --check`: what a repository still lacks is told, each with its fix, and nothing is changed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edgetrain.core.errors import InvalidFiles, RepositoryError, Transient, UsageError
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.providers.github.provider import GithubForge
from edgetrain.reconcile.initialise import configuration_of, initialise
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.site_check import is_remote_of, look
from edgetrain.render.doctor import Diagnosis
from edgetrain.render.init import check_json, check_markdown, check_text
from tests.cli.command import edgetrain, environment
from tests.cli.conftest import git
from tests.memory_forge import MemoryForge, serve
from tests.outputs import sound
from tests.scaffold.samples import ALL, GITHUB, GUID, KEY, LONE, SHA, below

# Its remote is a folder here, and its secrets are on no machine.
HERE = {"OtherRemote", "SecretMissing"}


@dataclass
class Made:
    """A repository as init made it, pushed to a remote of its own, on a forge that finds nothing amiss."""

    root: Path
    remote: Path
    forge: MemoryForge

    def looked(self) -> Diagnosis:
        return look(self.root, None)

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.root / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    root, remote = tmp_path / "site", tmp_path / "hosp" / "models.git"
    initialise(root, replace(below(tmp_path, GITHUB), signing_key=KEY, app="123456"))
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "-m", "Start")
    subprocess.run(["git", "init", "--quiet", "--bare", remote], env=environment(), check=True)
    git(root, "remote", "set-url", "origin", str(remote))
    git(root, "push", "--quiet", "origin", "main")
    forge = serve(monkeypatch, MemoryForge())
    forge.protections = [Check("branch-protection", CheckStatus.PASS, "main is protected")]
    return Made(root, remote, forge)


def checks(found: Diagnosis, status: CheckStatus) -> dict[str, Check]:
    return {
        check.reason or check.name: check for part in found.parts for check in part.checks if check.status is status
    }


def test_a_whole_repository_passes(made: Made) -> None:
    before = git(made.root, "status", "--porcelain", "--ignored")
    found = made.looked()
    assert found.good, check_text(found)
    assert set(checks(found, CheckStatus.WARN)) == HERE
    assert {part.kind for part in found.parts} == {"files", "git", "forge", "machine"}
    assert "branch-protection" in checks(found, CheckStatus.PASS)
    # Git's credential for the remote is the App's, on a host that has no other.
    assert "push_settings" in made.forge.calls
    assert git(made.root, "status", "--porcelain", "--ignored") == before


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://github.com/hosp/models.git", True),
        ("https://github.com/Hosp/models", True),
        ("https://x-access-token:hidden@github.com/hosp/models.git", True),
        ("git@github.com:hosp/models.git", True),
        ("ssh://git@ssh.github.com:443/hosp/models.git", True),
        ("https://github.com/hosp/other.git", False),
        ("https://user:hidden@github.example/hosp/models.git", False),
        ("git@github.com.example:hosp/models.git", False),
    ],
)
def test_the_remote_is_the_repository_that_is_declared(url: str, same: bool) -> None:
    assert is_remote_of(url, "https://github.com", "hosp/models") is same


def test_a_remote_with_a_credential_is_told_without_it(made: Made) -> None:
    git(made.root, "remote", "set-url", "origin", f"https://ada:hidden@127.0.0.1:9/{made.forge.repository}.git")
    told = check_text(made.looked())
    assert "hidden" not in told
    assert "127.0.0.1" in told


def _unpin(made: Made) -> None:
    made.edit(".github/workflows/drift.yml", "/drift.yml@5f0c9d2e5f0c9d2e5f0c9d2e5f0c9d2e5f0c9d2e", "/drift.yml@v1")


def _unpin_in_flow(made: Made) -> None:
    (made.root / ".github/workflows/own.yml").write_text("jobs: {a: {steps: [{uses: actions/checkout@main}]}}\n")


def _unpin_in_action(made: Made) -> None:
    file = made.root / ".github/actions/mine/action.yml"
    file.parent.mkdir(parents=True)
    file.write_text("runs:\n  steps:\n    - 'uses': docker://alpine:latest\n")


def _two_commits(made: Made) -> None:
    made.edit(".github/workflows/drift.yml", f"edgetrain-ref: {SHA}", f"edgetrain-ref: {'1' * 40}")


def _no_apply(made: Made) -> None:
    (made.root / ".github/workflows/apply.yml").unlink()


def _no_yaml(made: Made) -> None:
    (made.root / ".github/workflows/bad.yml").write_text("a: [\n")


def _no_owners(made: Made) -> None:
    (made.root / ".github/CODEOWNERS").unlink()


def _unowned(made: Made) -> None:
    with (made.root / ".github/CODEOWNERS").open("a") as file:
        file.write("/compute/\n")


def _unowned_tools(made: Made) -> None:
    made.edit(".github/CODEOWNERS", "/tools/ @hosp/platform", "/tools/")
    (made.root / "tools").mkdir()


def _no_signer(made: Made) -> None:
    (made.root / ".github/allowed_signers").unlink()


def _other_signer(made: Made) -> None:
    (made.root / ".github/allowed_signers").write_text(f"# edgetrain@localhost {KEY}\nmallory@x.example {KEY}\n")


def _no_remote(made: Made) -> None:
    git(made.root, "remote", "remove", "origin")


def _not_pushed(made: Made) -> None:
    git(made.root, "push", "--quiet", "origin", "main:other")
    git(made.remote, "symbolic-ref", "HEAD", "refs/heads/other")
    git(made.remote, "update-ref", "-d", "refs/heads/main")


def _unreachable(made: Made) -> None:
    made.remote.rename(made.remote.with_name("gone"))


def _invalid(made: Made) -> None:
    made.edit("experiments/example/experiment.yaml", "timeout: 10m", "timeout: soon")


def _unprotected(made: Made) -> None:
    made.forge.protections.append(Check("branch", CheckStatus.FAIL, "main is open", "NotProtected", "protect it"))


def _unreachable_forge(made: Made) -> None:
    made.forge.fail("diagnose", Transient("no answer", reason="ForgeUnreachable", fix="try again"))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_unpin, "NotPinned"),
        (_unpin_in_flow, "NotPinned"),
        (_unpin_in_action, "NotPinned"),
        (_two_commits, "PinsDiffer"),
        (_no_apply, "WorkflowMissing"),
        (_no_yaml, "BadWorkflow"),
        (_no_owners, "NoCodeOwners"),
        (_unowned, "Unowned"),
        (_unowned_tools, "Unowned"),
        (_no_signer, "SignerMissing"),
        (_other_signer, "SignerMissing"),
        (_no_remote, "NoRemote"),
        (_not_pushed, "NotPushed"),
        (_unreachable, "RemoteUnreachable"),
        (_invalid, "InvalidFiles"),
        (_unprotected, "NotProtected"),
        (_unreachable_forge, "ForgeUnreachable"),
    ],
)
def test_what_is_missing_fails_and_says_how_to_mend_it(
    made: Made, spoil: Callable[[Made], None], reason: str
) -> None:
    spoil(made)
    found = made.looked()
    assert not found.good
    failed = checks(found, CheckStatus.FAIL)
    assert set(failed) == {reason}
    assert failed[reason].fix


def _same_owners(made: Made) -> None:
    (made.root / ".github/CODEOWNERS").write_text("* @hosp/ds\n")


def _old_schema(made: Made) -> None:
    (made.root / ".vscode/schemas/model.schema.json").write_text("{}\n")


def _no_templates(made: Made) -> None:
    (made.root / ".github/PULL_REQUEST_TEMPLATE/experiment.md").unlink()


def _no_doctor(made: Made) -> None:
    (made.root / ".github/workflows/doctor.yml").unlink()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_same_owners, "SameOwners"),
        (_old_schema, "SchemasOutdated"),
        (_no_templates, "FileMissing"),
        (_no_doctor, "WorkflowMissing"),
    ],
)
def test_what_can_be_lived_without_is_a_doubt(made: Made, spoil: Callable[[Made], None], reason: str) -> None:
    spoil(made)
    found = made.looked()
    assert found.good, check_text(found)
    assert set(checks(found, CheckStatus.WARN)) == {reason, *HERE}


def test_secrets_are_looked_for_by_name_and_not_read(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = checks(made.looked(), CheckStatus.WARN)["SecretMissing"]
    assert told.message == "not on this machine: app-key, github-token, machine-key"
    text = (made.root / "edgetrain.yaml").read_text()
    (made.root / "edgetrain.yaml").write_text(text.replace("/etc/edgetrain/secrets", str(tmp_path)))
    for name in ("app-key", "machine-key"):
        (tmp_path / name).write_text("hidden\n")
    monkeypatch.setenv("GITHUB_TOKEN", "hidden")
    found = made.looked()
    assert "SecretMissing" not in checks(found, CheckStatus.WARN)
    assert "secrets" in checks(found, CheckStatus.PASS)
    assert "hidden" not in check_text(found)


def test_what_only_azure_knows_is_said_to_be_unknown(made: Made) -> None:
    block = f"{{type: azureml, subscription: {GUID}, resourceGroup: rg, name: ws, "
    block += f"auth: {{type: oidc, tenant: {GUID}, clientId: {GUID}}}}}"
    made.edit("edgetrain.yaml", "{type: mlflow}", block)
    told = checks(made.looked(), CheckStatus.WARN)["NotSeenHere"]
    assert GUID in told.fix


def test_commits_of_others_are_no_commits_of_edgetrain(made: Made) -> None:
    other = f"jobs: {{a: {{uses: other/tools/.github/workflows/apply.yml@{'2' * 40}}}}}\n"
    other += f"# with:\n#   repository: other/tools\n#   ref: {'3' * 40}\n"
    (made.root / ".github/workflows/own.yml").write_text(other)
    assert made.looked().good


def test_an_alias_bomb_costs_nothing(made: Made) -> None:
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    (made.root / ".github/workflows/bomb.yml").write_text("\n".join(lines) + "\n")
    assert made.looked().good


def test_a_forge_that_can_not_be_reached_is_not_asked_for_its_settings(made: Made) -> None:
    made.forge.found = [Check("forge", CheckStatus.FAIL, "no credential", "NoCredential", "put one there")]
    found = made.looked()
    assert set(checks(found, CheckStatus.FAIL)) == {"NoCredential"}
    assert "settings" not in made.forge.calls


def test_a_repository_without_a_forge_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    initialise(tmp_path / "site", below(tmp_path, LONE))
    git(tmp_path / "site", "add", "--all")
    git(tmp_path / "site", "commit", "--quiet", "-m", "Start")
    found = look(tmp_path / "site", "here")
    assert found.good
    assert set(checks(found, CheckStatus.WARN)) == {"NoForge", "Unsigned"}


def test_what_can_not_be_looked_at(made: Made, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        look(made.root, "elsewhere")
    made.edit("edgetrain.yaml", "kind: Configuration", "kind: Other")
    with pytest.raises(InvalidFiles):
        look(made.root, None)
    with pytest.raises(RepositoryError) as found:
        look(tmp_path, None)
    assert found.value.reason == "NoConfiguration"


def test_renderings(made: Made) -> None:
    _no_signer(made)
    made.forge.protections.append(Check("branch", CheckStatus.FAIL, "@all | <b>", "Open", "[mend](https://evil)"))
    found = made.looked()
    text, markdown, data = check_text(found), check_markdown(found), sound("init", check_json(found))
    assert "fix: edgetrain init --signing-key FILE.pub" in text
    assert markdown.startswith("### edgetrain init --check: site st-anna")
    assert "<b>" not in markdown and "](https" not in markdown and "@all" not in markdown
    assert data["kind"] == "RepositoryCheck"
    assert data["good"] is False
    assert data["counts"]["fail"] == 2


def test_the_verb_ends_with_3_when_something_is_missing(made: Made) -> None:
    # In a process of its own there is no forge in memory: without a credential that part fails.
    ended = edgetrain("init", "--check", "--format", "json", cwd=made.root)
    assert ended.code == 3, ended.err
    failed = [check for part in ended.json["parts"] for check in part["checks"] if check["status"] == "fail"]
    assert [check["reason"] for check in failed] == ["NoCredential"]
    named = edgetrain("init", "site", "--check", "--site", "st-anna", cwd=made.root.parent)
    assert named.code == 3
    assert "Repository of site st-anna" in named.out


@pytest.mark.parametrize(
    ("name", "sign_in"), [("github", None), ("github-azureml", "st-anna"), ("ghes-azureml", None)]
)
def test_the_forge_is_told_what_its_settings_are_looked_at_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sign_in: str | None
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    initialise(tmp_path / "site", below(tmp_path, ALL[name]))
    configuration = configuration_of(tmp_path / "site")
    assert configuration is not None
    forge = Site(configuration, "st-anna", tmp_path / "site").forge
    assert isinstance(forge, GithubForge)
    assert forge.block["runner"] == ["self-hosted", "st-anna"]
    assert forge.block.get("signIn") == sign_in
