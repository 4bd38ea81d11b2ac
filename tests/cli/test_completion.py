"""Completion: the script is sourced in bash, and completes verbs, options and names as a TAB does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import edgetrain, environment

RUN = "0123456789ab-1"
# As bash does on a TAB: the words of the line, and which of them the cursor is in.
TAB = """\
eval "$(edgetrain completion bash)" || exit 1
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_edgetrain_completion edgetrain
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def names(repository: Path) -> Path:
    """The checkout, with names to complete."""
    for path in (
        "experiments/chest/experiment.yaml",
        "experiments/cheap/experiment.yaml",
        f"experiments/chest/runs/{RUN}.json",
        "experiments/chest/runs/notes.json",
        "experiments/no-manifest/train.py",
        "models/triage/model.yaml",
        "models/triage/versions/2.yaml",
        "models/triage/versions/2.release-1.json",
        "compute/gpu-1.yaml",
    ):
        file = repository / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("nothing of it is read: [")
    return repository


def completed(folder: Path, *words: str) -> list[str]:
    """What a TAB after these words offers."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", TAB, "bash", "edgetrain", *words],
        cwd=folder,
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return [word for word in done.stdout.splitlines() if word]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["vali"], ["validate"]),
        (["github", "com"], ["comment"]),
        (["run", "che"], ["cheap", "chest"]),
        (["run", ""], ["cheap", "chest"]),
        (["runs", "--experiment", "ches"], ["chest"]),
        (["logs", ""], [f"chest-{RUN}"]),
        (["retry", "chest-"], [f"chest-{RUN}"]),
        (["propose", ""], [f"chest-{RUN}"]),
        (["propose", "--data", "chea"], ["cheap"]),
        (["models", "t"], ["triage"]),
        (["audit", ""], ["triage@2"]),
        (["compare", "triage@2", ""], ["triage@2", f"chest-{RUN}"]),
        (["verify", "tri"], ["triage", "triage@2"]),
        (["doctor", ""], ["gpu-1"]),
        (["new", "experiment", "--compute", ""], ["gpu-1"]),
        (["lock", "ches"], ["chest"]),
        (["schema", "compu"], ["computetarget"]),
        (["completion", "f"], ["fish"]),
        (["run", "$(touch x)"], []),
    ],
)
def test_a_tab_completes(names: Path, words: list[str], offered: list[str]) -> None:
    assert completed(names, *words) == offered
    assert not (names / "x").exists()


def test_options_are_completed(names: Path) -> None:
    assert {"--branch", "--format"} <= set(completed(names, "validate", "--"))
    assert {"-C", "--no-color"} <= set(completed(names, "-"))


def test_the_folder_that_is_named_counts(names: Path, tmp_path: Path) -> None:
    assert completed(tmp_path, "-C", str(names), "run", "ches") == ["chest"]


def test_outside_of_a_repository_nothing_is_offered_and_nothing_fails(tmp_path: Path) -> None:
    assert completed(tmp_path, "run", "") == []
    assert completed(tmp_path, "-C", "gone", "run", "") == []


def test_a_verb_is_completed_without_importing_any(names: Path) -> None:
    assert completed(names, "a") == ["apply", "audit"]
    code = (
        "import sys\nfrom edgetrain.cli.app import app\n"
        "from click.shell_completion import ShellComplete\n"
        "found = ShellComplete(app, {}, 'edgetrain', 'X').get_completions([], 'a')\n"
        "print([item.value for item in found])\n"
        "print([name for name in sys.modules if name in ('yaml', 'httpx', 'edgetrain.cli.apply')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "['apply', 'audit']\n[]\n"


@pytest.mark.parametrize(("shell", "holds"), [("zsh", "#compdef edgetrain"), ("fish", "complete --no-files")])
def test_the_other_shells_get_their_scripts(tmp_path: Path, shell: str, holds: str) -> None:
    ended = edgetrain("completion", shell, cwd=tmp_path)
    assert ended.code == 0
    assert holds in ended.out
    assert "_EDGETRAIN_COMPLETE" in ended.out
    told = edgetrain("completion", shell, "--format", "json", cwd=tmp_path)
    assert told.json == {"shell": shell, "script": ended.out.removesuffix("\n")}


def test_an_unknown_shell_is_wrong_usage(tmp_path: Path) -> None:
    ended = edgetrain("completion", "tcsh", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")


def test_edgetrain_alone_shows_its_help(tmp_path: Path) -> None:
    ended = edgetrain(cwd=tmp_path)
    assert "Verbs:" in ended.out + ended.err
    assert "Traceback" not in ended.err
