"""`init`: a new site's repository works at once, is completed by a second call, and takes nothing's place."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgetrain.scaffold import site
from tests.cli.command import Ended, edgetrain, environment
from tests.cli.conftest import git
from tests.outputs import sound
from tests.scaffold.samples import ALL, GITHUB, GUID, KEY, LONE, SHA, below

ON_GITHUB = (
    *("--forge", "github", "--repository", "hosp/models", "--site", "st-anna"),
    *("--owners", "@hosp/ds,@ada", "--platform-owners", "@hosp/platform", "--edgetrain", f"acme/edgetrain@{SHA}"),
)
ALONE = ("--forge", "none", "--site", "here", "--owners", "ada@hosp.example")


@pytest.fixture
def who(tmp_path: Path) -> dict[str, str]:
    """Where git learns who commits."""
    file = tmp_path / "gitconfig"
    file.write_text("[user]\nname = Dana\nemail = dana@example.org\n")
    return {"GIT_CONFIG_GLOBAL": str(file)}


def folders(tmp_path: Path) -> tuple[str, ...]:
    return "--state", str(tmp_path / "state"), "--data", str(tmp_path / "data")


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(root).parts[:1]
    }


def init(tmp_path: Path, who: dict[str, str], *options: str, name: str = "site") -> Ended:
    return edgetrain("init", name, *options, *folders(tmp_path), cwd=tmp_path, **who)


@pytest.mark.parametrize("options", [ON_GITHUB, ALONE], ids=["github", "none"])
def test_a_new_repository_is_valid_and_plans_at_once(
    tmp_path: Path, who: dict[str, str], options: tuple[str, ...]
) -> None:
    ended = init(tmp_path, who, *options)
    assert ended.code == 0, ended.err
    root = tmp_path / "site"
    assert git(root, "status", "--porcelain") == ""
    assert git(root, "log", "--format=%an").split() == ["Dana"]
    validated = edgetrain("validate", "--format", "json", cwd=root)
    assert (validated.code, validated.json["problems"]) == (0, [])
    planned = edgetrain("plan", "--format", "json", cwd=root)
    assert planned.code == 0, planned.err
    assert [change["id"] for change in planned.json["changes"] if not change.get("conditional")] == ["run/example"]
    assert "What people must do now" in ended.out


@pytest.mark.needs("bubblewrap", "git>=2.34")
def test_its_example_trains(tmp_path: Path, who: dict[str, str]) -> None:
    assert init(tmp_path, who, *ON_GITHUB).code == 0
    ran = edgetrain("run", "example", "--format", "json", cwd=tmp_path / "site")
    assert ran.code == 0, ran.err
    assert ran.json["outcome"] == "candidate"


def test_it_writes_what_the_answers_say(tmp_path: Path, who: dict[str, str]) -> None:
    ended = init(tmp_path, who, *ON_GITHUB, "--format", "json")
    assert ended.code == 0, ended.err
    root = tmp_path / "site"
    wanted = {path: text.encode() for path, text in site.files(below(tmp_path, GITHUB)).items()}
    assert contents(root) == wanted
    assert ended.json["written"] == sorted(wanted)
    assert ended.json["kept"] == []
    assert ended.json["commit"] == git(root, "rev-parse", "HEAD").strip()
    assert [step["id"] for step in ended.json["checklist"]] == [step.id for step in site.steps(GITHUB)]
    assert git(root, "remote", "get-url", "origin").strip() == "https://github.com/hosp/models.git"


def test_github_enterprise_server_with_azure(tmp_path: Path, who: dict[str, str]) -> None:
    options = [*ON_GITHUB, "--server", "https://git.hosp.example/", "--workspace", "azureml"]
    options[options.index("github")] = "ghes"
    for name in ("subscription", "tenant", "client"):
        options += [f"--azure-{name}", GUID]
    options += ["--azure-resource-group", "rg-ml", "--azure-workspace", "ws-radiology"]
    options += ["--api", "https://api.git.hosp.example/v3"]
    ended = init(tmp_path, who, *options)
    assert ended.code == 0, ended.err
    root = tmp_path / "site"
    wanted = site.files(below(tmp_path, ALL["ghes-azureml"]))
    assert contents(root) == {path: text.encode() for path, text in wanted.items()}
    assert edgetrain("validate", cwd=root).code == 0
    assert git(root, "remote", "get-url", "origin").strip() == "https://git.hosp.example/hosp/models.git"


@pytest.mark.parametrize("again", [(), ON_GITHUB], ids=["without options", "with the same"])
def test_a_second_call_changes_nothing(tmp_path: Path, who: dict[str, str], again: tuple[str, ...]) -> None:
    init(tmp_path, who, *ON_GITHUB)
    before, head = contents(tmp_path / "site"), git(tmp_path / "site", "rev-parse", "HEAD")
    ended = edgetrain("init", "site", *again, "--format", "json", cwd=tmp_path, **who)
    assert ended.code == 0, ended.err
    assert (ended.json["written"], ended.json["kept"], ended.json["commit"]) == ([], [], "")
    assert contents(tmp_path / "site") == before
    assert git(tmp_path / "site", "rev-parse", "HEAD") == head


def test_a_second_call_adds_what_is_missing_and_leaves_what_people_wrote(
    tmp_path: Path, who: dict[str, str]
) -> None:
    init(tmp_path, who, *ON_GITHUB)
    root = tmp_path / "site"
    whole = contents(root)
    gone = (".github/workflows/apply.yml", ".vscode/settings.json", ".github/CODEOWNERS")
    for path in gone:
        (root / path).unlink()
    (root / "README.md").write_text("ours\n")
    for file in (root / "experiments/example").iterdir():
        file.unlink()
    (root / "experiments/example").rmdir()
    (root / "experiments/other").mkdir()
    (root / "experiments/other/experiment.yaml").write_text("ours too\n")
    ended = edgetrain("-C", root, "init", "--owners", "@hosp/ds @ada", "--format", "json", cwd=tmp_path, **who)
    assert ended.code == 0, ended.err
    # The example was taken out on purpose, for there is another experiment.
    assert ended.json["written"] == sorted(gone)
    assert ended.json["kept"] == ["README.md"]
    now = contents(root)
    assert {path: now[path] for path in gone} == {path: whole[path] for path in gone}
    assert now["README.md"] == b"ours\n"


def test_a_call_that_was_killed_is_completed_by_the_next(tmp_path: Path, who: dict[str, str]) -> None:
    files = site.files(below(tmp_path, GITHUB))
    paths = sorted(files, key=lambda path: path == "edgetrain.yaml")
    for count in (0, 1, len(paths) // 2, len(paths) - 1, len(paths)):
        root = tmp_path / f"killed-{count}"
        for path in paths[:count]:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(files[path])
        ended = init(tmp_path, who, *ON_GITHUB, name=root.name)
        assert ended.code == 0, ended.err
        assert contents(root) == {path: text.encode() for path, text in files.items()}
        assert len(git(root, "log", "--format=%H").split()) == 1


def test_other_contents_are_refused_and_told_at_once(tmp_path: Path, who: dict[str, str]) -> None:
    root = tmp_path / "site"
    (root / ".github/workflows").mkdir(parents=True)
    (root / ".github/workflows/apply.yml").write_text("mine\n")
    (root / "notes.txt").write_text("mine\n")
    (root / "LICENSE").write_text("mine\n")
    (root / "models").symlink_to(tmp_path)
    before = contents(root)
    ended = init(tmp_path, who, *ON_GITHUB)
    assert ended.code == 2
    assert "reason: FolderInUse" in ended.err
    for name in (".github/workflows/apply.yml", "notes.txt", "models"):
        assert name in ended.err
    assert "LICENSE" not in ended.err
    assert contents(root) == before
    assert not (root / ".git").exists()


def test_a_new_clone_with_a_licence_is_a_good_place(tmp_path: Path, who: dict[str, str]) -> None:
    root = tmp_path / "site"
    root.mkdir()
    git(root, "init", "--quiet", "-b", "main")
    (root / "LICENSE").write_text("mine\n")
    git(root, "add", "LICENSE")
    git(root, "commit", "--quiet", "-m", "Initial commit")
    ended = init(tmp_path, who, *ON_GITHUB, "--format", "json")
    assert ended.code == 0, ended.err
    # Somebody else began the history: the files are theirs to look at and commit.
    assert ended.json["commit"] == ""
    assert git(root, "log", "--format=%s").strip() == "Initial commit"
    assert (root / "LICENSE").read_text() == "mine\n"


def test_a_folder_in_another_repository_is_refused(repository: Path) -> None:
    ended = edgetrain("init", "inner", *ALONE, cwd=repository)
    assert (ended.code, ended.out) == (2, "")
    assert "reason: InsideRepository" in ended.err
    assert not (repository / "inner").exists()


def test_what_contradicts_the_repository_is_told_at_once(tmp_path: Path, who: dict[str, str]) -> None:
    init(tmp_path, who, *ON_GITHUB)
    before = contents(tmp_path / "site")
    others = ("--repository", "hosp/other", "--site", "elsewhere", "--workspace", "azureml")
    ended = edgetrain("init", "site", *others, cwd=tmp_path, **who)
    assert ended.code == 2
    assert "reason: OtherRepository" in ended.err
    assert all(word in ended.err for word in ("hosp/other", "elsewhere", "azureml"))
    assert contents(tmp_path / "site") == before


def test_without_a_terminal_all_that_lacks_is_named(tmp_path: Path) -> None:
    ended = edgetrain("init", "site", "--forge", "ghes", "--format", "json", cwd=tmp_path)
    assert ended.code == 2
    error = ended.json["error"]
    assert error["reason"] == "AnswerMissing"
    for option in ("--server", "--repository", "--site", "--owners", "--edgetrain"):
        assert option in error["message"]
    assert not (tmp_path / "site").exists()


HOSTILE = (
    ("--repository", "hosp/models\nrun: id"),
    ("--owners", "@hosp/ds\n/.github/ @evil"),
    ("--site", "${{ github.token }}"),
    ("--edgetrain", "acme/edgetrain@main"),
    ("--state", "/tmp/$(id)"),
)


@pytest.mark.parametrize(("option", "value"), HOSTILE)
def test_hostile_answers_write_nothing(tmp_path: Path, who: dict[str, str], option: str, value: str) -> None:
    ended = edgetrain("init", "site", *ON_GITHUB, option, value, cwd=tmp_path, **who)
    assert ended.code == 2
    assert "\nrun: id" not in ended.err
    assert not (tmp_path / "site").exists()


def test_the_signing_key_can_follow(tmp_path: Path, who: dict[str, str]) -> None:
    init(tmp_path, who, *ON_GITHUB)
    key = tmp_path / "machine-key.pub"
    key.write_text(f"{KEY} edgetrain\n")
    ended = edgetrain("-C", "site", "init", "--signing-key", key, "--format", "json", cwd=tmp_path, **who)
    assert ended.code == 0, ended.err
    assert ended.json["written"] == [".github/allowed_signers"]
    assert any("not committed" in note for note in ended.json["notes"])
    assert (tmp_path / "site/.github/allowed_signers").read_text() == f"edgetrain@localhost {KEY}\n"
    key.write_text("ssh-ed25519 AAAAother\n")
    other = edgetrain("-C", "site", "init", "--signing-key", key, "--format", "json", cwd=tmp_path, **who)
    assert other.json["written"] == []
    assert any("AAAAother" in note for note in other.json["notes"])


def test_without_a_name_for_commits_people_commit(tmp_path: Path) -> None:
    ended = edgetrain("init", "site", *ALONE, "--format", "json", cwd=tmp_path, HOME=str(tmp_path))
    assert ended.code == 0, ended.err
    assert ended.json["commit"] == ""
    assert any("git commit" in note for note in ended.json["notes"])


def test_in_a_terminal_it_asks(tmp_path: Path, who: dict[str, str]) -> None:
    given = ["github", "not a repository", "hosp/models", "st-anna", "@hosp/ds, @ada", "@hosp/platform"]
    given += [f"acme/edgetrain@{SHA}"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "edgetrain", "init", "site", *folders(tmp_path), "--format", "json"],
        cwd=tmp_path,
        env=environment(**who),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    os.write(ours, "".join(f"{line}\n" for line in given).encode())
    out, err = process.communicate(timeout=120)
    os.close(ours)
    assert process.returncode == 0, err
    assert "Error: write OWNER/NAME" in err
    wanted = site.files(below(tmp_path, GITHUB))
    assert sound("init", out)["written"] == sorted(wanted)
    assert contents(tmp_path / "site") == {path: text.encode() for path, text in wanted.items()}


def test_help_says_what_it_does(tmp_path: Path) -> None:
    ended = edgetrain("init", "--help", cwd=tmp_path)
    assert ended.code == 0
    text = re.sub(r"\s+", " ", ended.out)
    assert "Nothing that is there is ever changed" in text
    assert LONE.forge in text
