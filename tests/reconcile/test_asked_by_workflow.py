"""Retries and cancels that a workflow asks for, with whatever somebody typed into its form."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from edgetrain.cli.app import app
from edgetrain.providers.folder.artifacts import FolderArtifacts
from edgetrain.reconcile.person import person
from edgetrain.reconcile.runs import list_runs
from edgetrain.repo.git import Git
from tests.apply.site import SmallSite
from tests.cli.command import environment

WORKFLOW = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_ACTOR": "petra",
    "GITHUB_ACTOR_ID": "4711",
    "GITHUB_TRIGGERING_ACTOR": "petra",
    "GITHUB_SERVER_URL": "https://github.com",
    "CI": "true",
}
PETRA = "petra <4711+petra@users.noreply.github.com>"
HOSTILE = (
    "$(touch owned)",
    "`touch owned`",
    "x; touch owned",
    '"; touch owned; echo "',
    "' || touch owned '",
    "--lost",
    "-C/",
    "--help",
    "--format=github",
    "@owned",
    "x\n::add-mask::y\n::set-env name=PATH::/tmp",
    "##[error]x",
    "\x1b]0;title\x07\x1b[31m",
    "\u202egnp.exe",
    "../../../etc/passwd",
    "a" * 100_000,
    "mean-*",
    "\r\n",
    "",
)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> SmallSite:
    """A site with one run that failed."""
    site = SmallSite(tmp_path_factory.mktemp("asked") / "a site").make()
    site.write("experiments/mean/train.py", "raise SystemExit(1)\n")
    site.push("Break it")
    site.apply()
    site.sync()
    return site


def asked(site: SmallSite, *arguments: str) -> Result:
    """One step of a workflow, past the shell."""
    return CliRunner(env={**WORKFLOW, "GIT_CONFIG_GLOBAL": os.devnull}).invoke(
        app, ["-C", str(site.clone), *arguments]
    )


def retried(site: SmallSite, run: str, reason: str) -> Result:
    return asked(site, "retry", f"--reason={reason}", "--", run)


def claims(site: SmallSite) -> dict[str, dict[str, str]]:
    store = FolderArtifacts(root=site.state / "artifacts")
    return {name: json.loads(value) for name, value in store.claims("retries/")}


def commands(told: str) -> list[str]:
    """The lines that the runner would take for commands."""
    return [line for line in told.splitlines() if line.lstrip().startswith("::") or "##[" in line]


@pytest.mark.parametrize("verb", [("retry", "--reason=because"), ("cancel",)], ids=["retry", "cancel"])
def test_a_run_is_a_name_and_nothing_else(failed: SmallSite, verb: tuple[str, ...]) -> None:
    for text in HOSTILE:
        ended = asked(failed, *verb, "--", text)
        assert ended.exit_code == 2, ended.output
        assert "no run" in ended.output
        assert len(ended.output) < 2_000
        assert commands(ended.output) == []
        assert not {"\x1b", "\u202e", "\r"} & set(ended.output)
    assert claims(failed) == {}


def test_a_reason_is_one_bounded_line(failed: SmallSite) -> None:
    (row,) = list_runs(failed.clone).rows
    for text in filter(str.strip, HOSTILE):
        ended = retried(failed, row.id, text)
        assert ended.exit_code == 0, ended.output
        [(name, wish)] = claims(failed).items()
        FolderArtifacts(root=failed.state / "artifacts").release_claim(name)
        assert (wish["run"], wish["by"]) == (row.id, PETRA)
        assert 0 < len(wish["reason"]) <= 500
        assert wish["reason"].isprintable()
        assert commands(ended.output) == []


def test_the_shell_of_a_step_makes_nothing_of_them(failed: SmallSite) -> None:
    before = sorted(failed.clone.iterdir())
    line = 'for TEXT in "$A" "$B" "$C"; do "$PYTHON" -m edgetrain retry --reason="$TEXT" -- "$TEXT" || true; done'
    texts = dict(zip("ABC", HOSTILE, strict=False))
    told = environment(**WORKFLOW, **texts, PYTHON=sys.executable)
    command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", line]
    ended = subprocess.run(command, cwd=failed.clone, env=told, capture_output=True, text=True, check=True)
    assert ended.stderr.count("no run") == 3
    assert sorted(failed.clone.iterdir()) == before


def test_a_reason_is_needed(failed: SmallSite) -> None:
    (row,) = list_runs(failed.clone).rows
    for text in ("", "\r\n", " \t"):
        ended = retried(failed, row.id, text)
        assert (ended.exit_code, claims(failed)) == (2, {})
        assert "needs a reason" in ended.output


def test_who_started_the_workflow_is_who_asked(failed: SmallSite, monkeypatch: pytest.MonkeyPatch) -> None:
    git = Git.find(failed.clone)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for name, value in WORKFLOW.items():
        monkeypatch.setenv(name, value)
    assert person(git) == PETRA
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://forge.example:8443")
    assert person(git) == "petra <4711+petra@users.noreply.forge.example>"
    monkeypatch.setenv("GITHUB_TRIGGERING_ACTOR", "ravi")
    assert person(git) == "ravi <ravi@users.noreply.forge.example>", "the number is the other's"
    monkeypatch.setenv("GITHUB_TRIGGERING_ACTOR", "")
    monkeypatch.setenv("GITHUB_ACTOR", "github-actions[bot]")
    assert person(git).startswith("github-actions[bot] <4711+")
    for wrong in ("", "x> <y@z", "a\nb", "-x", "x" * 200):
        monkeypatch.setenv("GITHUB_ACTOR", wrong)
        assert person(git) == ""
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert person(git) == ""
