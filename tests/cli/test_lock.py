"""`lock`: uv pins packages from a folder of wheels, so that no test asks the network."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from edgetrain.core.errors import UsageError
from edgetrain.scaffold.lock import environment, lock, pins
from tests.cli.command import edgetrain


def wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    """Write a wheel that holds one empty module."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {required}\n" for required in requires)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(f"{info}/METADATA", metadata)
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is the only index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel(folder, "alpha", "1.0", "beta>=1")
    wheel(folder, "beta", "1.0")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_NO_CACHE", "1")
    return folder


@pytest.fixture
def experiment(repository: Path) -> Path:
    """The folder of a new experiment."""
    assert edgetrain("new", "experiment", "mine", cwd=repository).code == 0
    return repository / "experiments/mine"


def test_packages_are_pinned_with_hashes(repository: Path, experiment: Path, wheels: Path) -> None:
    (experiment / "requirements.in").write_text(f"--find-links {wheels}\nalpha\n")
    ended = edgetrain("lock", "mine", cwd=repository)
    assert ended.code == 0, ended.err
    assert ended.out == "experiments/mine/requirements.lock: 2 packages, 2 added\n"
    text = (experiment / "requirements.lock").read_text()
    assert pins(text) == {"alpha": "1.0", "beta": "1.0"}
    assert text.count("--hash=sha256:") == 2
    assert str(wheels) not in text
    assert "--find-links" not in text
    assert sorted(path.name for path in experiment.iterdir() if ".partial" in path.name) == []


def test_pins_are_kept_until_an_upgrade_is_asked_for(repository: Path, experiment: Path, wheels: Path) -> None:
    (experiment / "requirements.in").write_text("alpha\n")
    assert edgetrain("lock", "mine", cwd=repository).code == 0
    wheel(wheels, "beta", "2.0")
    assert "none changed" in edgetrain("lock", "mine", cwd=repository).out
    ended = edgetrain("lock", "mine", "--upgrade", "--format", "json", cwd=repository)
    assert ended.json == {
        "path": "experiments/mine/requirements.lock",
        "packages": 2,
        "added": [],
        "removed": [],
        "changed": ["beta"],
    }


def test_no_packages_make_an_empty_lock(repository: Path, experiment: Path, wheels: Path) -> None:
    (experiment / "requirements.in").write_text("alpha\n")
    assert edgetrain("lock", "mine", cwd=repository).code == 0
    (experiment / "requirements.in").write_text("# nothing\n\n")
    assert edgetrain("lock", "mine", cwd=repository).out.endswith(": 0 packages, 2 removed\n")
    lines = (experiment / "requirements.lock").read_text().splitlines()
    assert lines
    assert all(line.startswith("#") for line in lines)


def test_what_can_not_be_solved_changes_nothing(repository: Path, experiment: Path, wheels: Path) -> None:
    before = (experiment / "requirements.lock").read_bytes()
    (experiment / "requirements.in").write_text("alpha>=7\n")
    ended = edgetrain("lock", "mine", cwd=repository)
    assert (ended.code, ended.out) == (3, "")
    assert "alpha" in ended.err
    assert "reason: NoSolution" in ended.err
    assert (experiment / "requirements.lock").read_bytes() == before


def test_an_index_that_does_not_answer(repository: Path, experiment: Path) -> None:
    (experiment / "requirements.in").write_text("alpha\n")
    index = "http://user:hunter2@127.0.0.1:9/simple"
    ended = edgetrain("lock", "mine", cwd=repository, PIP_INDEX_URL=index, UV_HTTP_RETRIES="0", UV_NO_CACHE="1")
    assert ended.code == 3
    assert "reason: IndexUnreachable" in ended.err
    assert "127.0.0.1:9" in ended.err  # pip's setting was used
    assert "hunter2" not in ended.err


def test_an_unknown_experiment_suggests(repository: Path, experiment: Path) -> None:
    ended = edgetrain("lock", "mime", "--format", "json", cwd=repository)
    assert (ended.code, ended.json["error"]["reason"]) == (2, "UnknownExperiment")
    assert 'did you mean "mine"?' in ended.json["error"]["message"]


@pytest.mark.parametrize("name", ["../requirements.lock", "/tmp/requirements.lock", "link.lock", "requirements.in"])
def test_the_lock_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "link.lock").symlink_to(tmp_path / "elsewhere")
    for place in (folder, tmp_path):
        (place / "requirements.in").write_text("")
    with pytest.raises(UsageError) as caught:
        lock(folder, name, "3.11")
    assert caught.value.reason == "BadLockPath"
    assert not (tmp_path / "elsewhere").exists()


def test_settings_of_pip_count_where_uv_has_none() -> None:
    found = environment({"PIP_INDEX_URL": "https://a", "PIP_CERT": "/ca.pem", "HTTPS_PROXY": "http://p"})
    assert found["UV_DEFAULT_INDEX"] == "https://a"
    assert found["SSL_CERT_FILE"] == "/ca.pem"
    assert found["HTTPS_PROXY"] == "http://p"
    assert (
        environment({"PIP_INDEX_URL": "https://a", "UV_DEFAULT_INDEX": "https://b"})["UV_DEFAULT_INDEX"]
        == "https://b"
    )
    assert "UV_DEFAULT_INDEX" not in environment({"PIP_INDEX_URL": "https://a", "UV_INDEX_URL": "https://b"})
