"""The setup action: pinned packages, a copy of the checkout's own package, and two jobs at once."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from testbed.part import until
from tests.github.files import GITHUB, ROOT

SETUP = GITHUB / "actions" / "setup"
VERSION = "{}.{}".format(*sys.version_info)


def pins(lock: Path) -> dict[str, str]:
    """By package, the whole entry: versions, markers and hashes."""
    text = re.sub(r" *#.*", "", lock.read_text())
    entries = re.findall(r"^([a-z0-9][\w.-]*)==((?:.*\\\n)*.*)", text, re.MULTILINE)
    return {f"{name} {rest.split()[0]}": rest.split(";")[0] + rest[rest.find("--hash") :] for name, rest in entries}


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-azureml.lock"])
def test_runners_get_what_the_tests_ran_with(name: str) -> None:
    ours, tested = pins(SETUP / name), pins(ROOT / "requirements.lock")
    assert ours
    for package, entry in ours.items():
        hashes = set(re.findall(r"--hash=sha256:[0-9a-f]{64}", entry))
        assert hashes
        assert hashes == set(re.findall(r"--hash=sha256:[0-9a-f]{64}", tested[package])), package


def test_runners_get_all_that_is_needed_and_no_tool_of_developers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[<>=;\[ ]", one)[0].lower() for one in requirements}

    plain = {pin.split()[0] for pin in pins(SETUP / "requirements.lock")}
    azure = {pin.split()[0] for pin in pins(SETUP / "requirements-azureml.lock")}
    extras = project["optional-dependencies"]
    assert names(project["dependencies"]) <= plain < azure
    assert names(extras["azureml"]) <= azure
    assert not (names(extras["dev"]) | names(extras["demo"])) & azure


class Runner:
    """A runner's machine: a tool cache, and a checkout with another lock if one is given."""

    def __init__(self, folder: Path, lock: str | None = None) -> None:
        self.cache, self.path = folder / "tools", folder / "path"
        self.root = ROOT
        if lock is not None:
            self.root = folder / "checkout"
            shutil.copytree(SETUP, self.root / ".github" / "actions" / "setup")
            shutil.copytree(ROOT / "tools" / "edgetrain", self.root / "tools" / "edgetrain")
            (self.root / ".github" / "actions" / "setup" / "requirements.lock").write_text(lock)
        locked = self.root / ".github" / "actions" / "setup" / "requirements.lock"
        self.key = hashlib.sha256(locked.read_bytes() + VERSION.encode()).hexdigest()

    @property
    def packages(self) -> Path:
        return self.cache / "edgetrain" / f"packages-{self.key}"

    @property
    def ready(self) -> Path:
        return self.packages.with_name(self.packages.name + ".ready")

    def prepare(self) -> None:
        """Take the environment that runs these tests for the one that was made."""
        self.packages.parent.mkdir(parents=True)
        self.packages.symlink_to(sys.prefix)
        self.ready.touch()

    def start(self, **env: str) -> subprocess.Popen[str]:
        setup = self.root / ".github" / "actions" / "setup" / "setup.py"
        return subprocess.Popen(
            [sys.executable, "-I", setup],
            env={**os.environ, "RUNNER_TOOL_CACHE": str(self.cache), "GITHUB_PATH": str(self.path), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, **env: str) -> tuple[int, str]:
        started = self.start(**env)
        said = started.communicate(timeout=300)[0]
        return started.returncode, said

    def program(self) -> Path:
        return Path(self.path.read_text().splitlines()[-1]) / "edgetrain"


def test_the_program_is_a_copy_of_the_checkouts_own_package(tmp_path: Path) -> None:
    runner = Runner(tmp_path, "")
    runner.prepare()
    assert runner.run()[0] == 0
    shutil.rmtree(runner.root)  # as a runner's workspace is cleaned while a detached run goes on
    done = subprocess.run([runner.program(), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("edgetrain ")
    where = "import edgetrain; print(edgetrain.__file__)"
    entry = (runner.program().parent.parent / "entry.py").read_text().partition("from edgetrain")[0]
    found = subprocess.run(
        [runner.packages / "bin" / "python", "-I", "-c", entry + where], capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()).is_relative_to(runner.cache)


def test_another_commit_gets_another_program_and_the_same_packages(tmp_path: Path) -> None:
    runner = Runner(tmp_path, "")
    runner.prepare()
    assert runner.run()[0] == 0
    first = runner.program()
    assert runner.run()[0] == 0
    assert runner.program() == first
    (runner.root / "tools" / "edgetrain" / "__init__.py").write_text('"""Ours."""\n\n__version__ = "9.9.9"\n')
    assert runner.run()[0] == 0
    assert runner.program() != first
    said = subprocess.run([runner.program(), "--version"], capture_output=True, text=True, check=True).stdout
    assert said == "edgetrain 9.9.9\n"
    assert len(list(runner.cache.glob("edgetrain/packages-*.ready"))) == 1


def test_two_jobs_at_once_make_one_environment_and_a_killed_one_is_made_anew(tmp_path: Path) -> None:
    runner = Runner(tmp_path, "")
    killed = runner.start()
    until(runner.packages.exists, "the environment to be begun")
    os.killpg(killed.pid, 9)
    killed.communicate()
    assert not runner.ready.exists()
    (runner.packages / "half").touch()
    both = [runner.start(), runner.start()]
    said = [one.communicate(timeout=300)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert runner.ready.exists()
    assert not (runner.packages / "half").exists()
    assert (runner.packages / "bin" / "python").exists()
    assert not list(runner.cache.glob("edgetrain/.code-*"))


def test_a_package_with_another_hash_is_refused_and_told(tmp_path: Path) -> None:
    runner = Runner(tmp_path, f"click==8.1.8 --hash=sha256:{'0' * 64}\n")
    code, said = runner.run(PIP_NO_INDEX="1")
    assert code == 1
    assert "::error title=edgetrain::the packages could not be installed" in said
    assert not runner.ready.exists()
    assert not runner.path.exists()


def test_an_unknown_extra_is_refused(tmp_path: Path) -> None:
    code, said = Runner(tmp_path).run(EXTRAS="../..")
    assert (code, "`extras` is empty or `azureml`" in said) == (1, True)
