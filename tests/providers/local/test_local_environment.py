"""Environments: built once per lock, only from what the lock's hashes say, without any code of a package."""

from __future__ import annotations

import base64
import hashlib
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgetrain.core.ports import RunPhase
from tests.contract.compute import settle
from tests.contract.local_target import LocalTarget

from .scripts import play, script

WHEEL = "tiny-1.0-py3-none-any.whl"
TOLD = "import importlib.metadata, tiny; print(importlib.metadata.version('tiny'), tiny.WHERE)"


def wheel(folder: Path, module: str = "") -> tuple[Path, str]:
    """A wheel `tiny` with a console script and a `.pth` file; with its line in a lock file."""
    files = {
        "tiny.py": f"WHERE = __file__\ndef main():\n    print('from the command')\n{module}",
        "tiny.pth": "import os; os.environ['TINY_PTH'] = 'ran'\n",
        "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: us\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny-1.0.dist-info/entry_points.txt": "[console_scripts]\ntiny = tiny:main\n",
    }
    record = []
    path = folder / WHEEL
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(text)}\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "".join([*record, "tiny-1.0.dist-info/RECORD,,\n"]))
    return path, f"tiny==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture(params=[pytest.param(True, marks=pytest.mark.needs("bubblewrap")), False], ids=["sandbox", "plain"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> LocalTarget:
    return LocalTarget(tmp_path / "site's state", sandbox=request.param)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index in a folder, the only place where packages come from; nothing is in a shared cache."""
    folder = tmp_path / "simple" / "tiny"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text(f'<!DOCTYPE html><a href="{WHEEL}">{WHEEL}</a>')
    for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", folder.parent.as_uri())
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    return folder


def environments(target: LocalTarget) -> list[Path]:
    return [path for path in (target.state / "environments").iterdir() if path.is_dir()]


def test_packages_are_installed_once(target: LocalTarget, index: Path, tmp_path: Path) -> None:
    path, lock = wheel(index)
    state, log = play(target, tmp_path / "one", TOLD, requirements=lock.encode(), command="python train.py && tiny")
    assert state.exit_code == 0, [state, log]
    version, _, where = log[-2].partition(" ")
    assert version == "1.0"
    assert where.startswith("/edgetrain/environment/" if target.sandbox else str(target.state))
    assert log[-1] == "from the command"
    assert list(environments(target)[0].rglob("tiny.*.pyc")), "compiled, for runs can't write there"
    path.unlink()
    state, log = play(target, tmp_path / "two", TOLD, requirements=lock.encode(), id="wear-2-1")
    assert state.exit_code == 0, [state, log]
    assert len(environments(target)) == 1


def test_two_runs_at_once_build_once(target: LocalTarget, index: Path, tmp_path: Path) -> None:
    _, lock = wheel(index)
    compute = target.connect()
    made = [
        script(target, tmp_path / str(number), TOLD, requirements=lock.encode(), id=f"wear-{number}-1")
        for number in range(3)
    ]
    threads = [threading.Thread(target=compute.start, args=(one,)) for one in [*made, *made]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in made:
        assert settle(compute, one.id).exit_code == 0, list(compute.logs(one.id))
        assert len([line for line in compute.logs(one.id) if line.startswith("1.0 ")]) == 1
    assert len(environments(target)) == 1


@pytest.mark.parametrize(
    ("requirements", "said"),
    [
        ("tiny==1.0\n", "hash"),
        ("tiny==1.0 --hash=sha256:" + "0" * 64 + "\n", "hash"),
        ("absent==1.0 --hash=sha256:" + "0" * 64 + "\n", "absent"),
    ],
    ids=["no hash", "another hash", "absent"],
)
def test_a_build_that_fails_ends_the_run(
    target: LocalTarget, index: Path, tmp_path: Path, requirements: str, said: str
) -> None:
    wheel(index)
    state, log = play(target, tmp_path, "print('it ran')", requirements=requirements.encode())
    assert (state.phase, state.ended_by, state.exit_code) == (RunPhase.ENDED, "environment", None)
    assert said in state.message.lower()
    assert str(index) not in state.message
    assert len(state.message) < 1000
    assert any(said in line.lower() for line in log)
    assert "it ran" not in log
    assert not any((path / "complete").exists() for path in environments(target))


def test_a_half_built_environment_is_built_again(target: LocalTarget, index: Path, tmp_path: Path) -> None:
    _, lock = wheel(index)
    play(target, tmp_path / "one", TOLD, requirements=lock.encode())
    (environment,) = environments(target)
    (environment / "complete").unlink()
    (environment / "bin" / "python").unlink()
    state, log = play(target, tmp_path / "two", TOLD, requirements=lock.encode(), id="wear-2-1")
    assert state.exit_code == 0, log


def test_no_code_of_a_package_runs_outside_the_run(target: LocalTarget, index: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    _, lock = wheel(index, f"open({str(witness)!r}, 'w').close()\n")
    state, log = play(
        target, tmp_path / "one", "import os; print(os.environ['TINY_PTH'])", requirements=lock.encode()
    )
    assert (state.exit_code, log[-1]) == (0, "ran")
    assert not witness.exists()


def test_the_index_is_not_told_to_the_run(
    target: LocalTarget, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, lock = wheel(index)
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:9")
    monkeypatch.setenv("GITHUB_TOKEN", "hunter3")
    made = script(target, tmp_path / "one", "import os; print(dict(os.environ))", requirements=lock.encode())
    compute = target.connect()
    compute.start(made)
    assert settle(compute, made.id).exit_code == 0
    for path in target.folder(made.id).rglob("*"):
        assert not path.is_file() or b"hunter" not in path.read_bytes(), path


def test_a_missing_home_is_no_hindrance(
    target: LocalTarget, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, lock = wheel(index)
    for name in ("HOME", "UV_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C")
    state, log = play(target, tmp_path / "one", TOLD, requirements=lock.encode())
    assert state.exit_code == 0, log


def test_a_build_can_be_cancelled(target: LocalTarget, index: Path, tmp_path: Path) -> None:
    _, lock = wheel(index)
    compute = target.connect()
    first = script(target, tmp_path / "one", "print('it ran')", requirements=lock.encode())
    made = replace(first, id="wear-2-1")
    compute.start(first)
    settle(compute, first.id)
    (environment,) = environments(target)
    (environment / "complete").unlink()
    import fcntl

    with environment.with_suffix(".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        compute.start(made)
        assert compute.inspect(made.id).phase is RunPhase.PREPARING
        compute.cancel(made.id, "Superseded")
    state = compute.inspect(made.id)
    assert (state.ended_by, state.started) == ("cancel", None)
    assert list(compute.logs(made.id)) == []
