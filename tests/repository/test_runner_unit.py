"""The site's runner as documented: a hardened unit, and a registration that never leaves root's hands."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs/runner"
UNIT = FOLDER / "edgetrain-runner@.service"
REGISTER = FOLDER / "register-runner"
# systemd's own mark of how open a service is, from 0 (closed) to 100; without hardening it is 96.
MOST_EXPOSED = {"hardened": 20, "local": 45}
FAKE_GH = """#!/bin/sh
printf '%s\\n' "$GH_HOST" "$GH_TOKEN" "$@" > "$LOG"
printf '%s\\n' "$ANSWER"
"""


def settings(unit: Path) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in unit.read_text().splitlines():
        if re.match(r"[A-Z]\w*=", line):
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


def test_each_job_gets_a_clean_runner_of_an_unprivileged_user() -> None:
    unit = settings(UNIT)
    assert unit["User"] == ["edgetrain-runner"]
    assert unit["Restart"] == ["always"]
    as_root = [line for line in [*unit["ExecStartPre"], *unit["ExecStart"]] if line.startswith("+")]
    assert as_root == [
        "+/usr/bin/find %S/edgetrain-runner/%i -mindepth 1 -delete",
        "+/usr/local/lib/edgetrain/register-runner %i",
    ]
    for name in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateUsers", "RestrictNamespaces"):
        assert unit[name] == ["yes"], name
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["LimitCORE"] == ["0"]
    assert "ACTIONS_RUNNER_HOOK_JOB_STARTED=/usr/local/lib/edgetrain/job-started.sh" in unit["Environment"]
    assert (FOLDER / "job-started.sh").is_file()
    assert unit["CapabilityBoundingSet"] == [""]
    assert "-/etc/edgetrain-runner" in unit["InaccessiblePaths"][0]


@pytest.mark.parametrize("kind", MOST_EXPOSED)
def test_systemd_calls_it_closed(kind: str, tmp_path: Path) -> None:
    shutil.copy(UNIT, tmp_path)
    if kind == "local":
        dropin = tmp_path / f"{UNIT.name}.d"
        dropin.mkdir()
        shutil.copy(FOLDER / "local.conf", dropin)
        assert settings(FOLDER / "local.conf")["KillMode"] == ["process"]
    if shutil.which("systemd-analyze") is None:
        return  # systemd is not on this machine: what the unit says is tested above
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED[kind]}", UNIT.name]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    command = ["systemd-analyze", "verify", "./edgetrain-runner@1.service"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60)
    # The only thing that this machine lacks is the runner itself.
    said = [line for line in done.stderr.splitlines() if "edgetrain-runner" in line]
    assert all("is not executable" in line for line in said), said


def register(tmp_path: Path, answer: str) -> subprocess.CompletedProcess[str]:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    gh = bin_folder / "gh"
    gh.write_text(FAKE_GH)
    gh.chmod(0o755)
    (tmp_path / "token").write_text("github_pat_0123456789\n")
    (tmp_path / "settings").write_text('ORGANIZATION=hosp\nGROUP=3\nLABELS="st-anna gpu"\nREPOSITORY=hosp/models\n')
    environment = {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "SETTINGS": str(tmp_path / "settings"),
        "TOKEN_FILE": str(tmp_path / "token"),
        "FOLDER": str(tmp_path / "run"),
        "LOG": str(tmp_path / "log"),
        "ANSWER": answer,
    }
    return subprocess.run(
        ["sh", str(REGISTER), "1"], env=environment, check=False, capture_output=True, text=True, timeout=60
    )


def test_the_registration_is_for_one_job_and_the_token_is_no_argument(tmp_path: Path) -> None:
    done = register(tmp_path, "eyJhIjoxfQ==")
    assert done.returncode == 0, done.stderr
    host, token, *arguments = (tmp_path / "log").read_text().splitlines()
    assert (host, token) == ("github.com", "github_pat_0123456789")
    assert "orgs/hosp/actions/runners/generate-jitconfig" in arguments
    assert [word for word in arguments if word.startswith("labels[]=")] == [
        "labels[]=self-hosted",
        "labels[]=st-anna",
        "labels[]=gpu",
    ]
    assert not any("github_pat" in word for word in arguments)
    made = tmp_path / "run/1.env"
    assert made.read_text().splitlines() == [
        "ACTIONS_RUNNER_INPUT_JITCONFIG=eyJhIjoxfQ==",
        "EDGETRAIN_REPOSITORY=hosp/models",
        "EDGETRAIN_BRANCH=main",
    ]
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


@pytest.mark.parametrize("answer", ["", "a\nEVIL=1", 'a" EVIL=1', "<html>"])
def test_an_answer_that_is_none_is_refused(answer: str, tmp_path: Path) -> None:
    done = register(tmp_path, answer)
    assert done.returncode == 1
    assert not (tmp_path / "run").exists()


# What the runner does with a hook: a step that fails does not keep a later one with `if: always()` from its turn.
WORKER = """#!/bin/sh
bash -e "$HOOK" > "$LOG" 2>&1
echo the hook ended with $? >> "$LOG"
echo a step that always runs >> "$LOG"
"""
OURS = {
    "EDGETRAIN_REPOSITORY": "hosp/models",
    "GITHUB_REPOSITORY": "hosp/models",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_EVENT_NAME": "schedule",
    "GITHUB_WORKFLOW_REF": "hosp/models/.github/workflows/apply.yml@refs/heads/main",
}


def job(tmp_path: Path, **other: str) -> tuple[int, str]:
    """How a worker ends that begins with the hook, and what it and its steps said."""
    worker = tmp_path / "Runner.Worker"
    worker.write_text(WORKER)
    worker.chmod(0o755)
    log = tmp_path / "log"
    environment = {
        "PATH": os.environ["PATH"],
        "HOOK": str(FOLDER / "job-started.sh"),
        "LOG": str(log),
        "GRACE": "0",
    }
    done = subprocess.run([worker], env={**environment, **OURS, **other}, check=False, timeout=60)
    return done.returncode, log.read_text()


def test_a_job_of_main_goes_on(tmp_path: Path) -> None:
    code, said = job(tmp_path)
    assert (code, said) == (0, "the hook ended with 0\na step that always runs\n")


@pytest.mark.parametrize(
    "other",
    [
        {"GITHUB_REF": "refs/heads/dana/intrude"},
        {"GITHUB_REF": "refs/pull/7/merge", "GITHUB_EVENT_NAME": "pull_request"},
        {"GITHUB_REPOSITORY": "mallory/models"},
        {"GITHUB_EVENT_NAME": "issue_comment"},
        {"GITHUB_WORKFLOW_REF": "hosp/models/.github/workflows/apply.yml@refs/heads/dana/intrude"},
    ],
)
def test_of_any_other_job_no_step_runs_not_even_one_that_always_does(other: dict[str, str], tmp_path: Path) -> None:
    code, said = job(tmp_path, **other)
    assert code == -signal.SIGKILL
    assert "this runner takes jobs of hosp/models at refs/heads/main alone" in said
    assert "a step that always runs" not in said


def test_a_runner_that_does_not_know_whose_it_is_runs_nothing(tmp_path: Path) -> None:
    code, said = job(tmp_path, EDGETRAIN_REPOSITORY="")
    assert code == -signal.SIGKILL
    assert "a step that always runs" not in said
