"""Environments made on the runner, for machines that have no index: once, of hashed wheels, without their code."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from edgetrain.core.errors import Rejected, Transient
from edgetrain.providers.ssh import environment
from tests.providers.local.test_local_environment import wheel

from .machine import WORK, Machine, Play

REAL = [pytest.mark.needs("vm"), pytest.mark.needs("mmdebstrap"), pytest.mark.needs("skopeo")]
IMAGE, PYTHON, PLATFORM = "sha256:" + "1" * 64, "3.11", "linux/amd64"
TOLD = """
import importlib.metadata, os, sys, tiny
print(importlib.metadata.version("tiny"), tiny.WHERE, os.environ["TINY_PTH"])
"""


def ensure(state: Path, lock: str, **changes: str) -> environment.Packed:
    words = {"image": IMAGE, "python": PYTHON, "platform": PLATFORM, **changes}
    return environment.ensure(state, lock.encode(), **words)


def test_the_same_lock_gives_the_same_bytes(index: Path, tmp_path: Path) -> None:
    path, lock = wheel(index)
    one = ensure(tmp_path / "one", lock)
    two = ensure(tmp_path / "two", lock)
    assert (one.id, one.digest) == (two.id, two.digest)
    assert hashlib.sha256(b"".join(one.parts())).hexdigest() == one.digest.removeprefix("sha256:")
    path.unlink()
    assert ensure(tmp_path / "one", lock).digest == one.digest  # nothing is fetched again
    with tarfile.open(one.path) as archive:
        names = archive.getnames()
        assert {(member.uid, member.mtime) for member in archive} == {(0, 0)}
    assert {"bin/tiny", "bin/python", "lib/tiny.py", "start/sitecustomize.py"} <= set(names)
    assert sorted(entry.name for entry in (tmp_path / "one" / "environments").iterdir()) == [
        *(f"{one.id}.json", f"{one.id}.lock", f"{one.id}.tar")
    ]


@pytest.mark.parametrize("change", ["image", "python", "platform"])
def test_an_environment_is_one_for_its_image_python_and_platform(change: str) -> None:
    words = {"image": IMAGE, "python": PYTHON, "platform": PLATFORM}
    mine = environment.environment_id(b"lock", **words)
    assert len(mine) == 64
    assert mine == environment.environment_id(b"lock", **words)
    assert mine != environment.environment_id(b"another", **words)
    assert mine != environment.environment_id(b"lock", **{**words, change: "other"})


def test_what_was_damaged_on_the_runners_disk_is_made_again(index: Path, tmp_path: Path) -> None:
    _, lock = wheel(index)
    packed = ensure(tmp_path, lock)
    packed.path.write_bytes(packed.path.read_bytes()[:-512] + b"x" * 512)
    assert ensure(tmp_path, lock).digest == packed.digest
    assert hashlib.sha256(packed.path.read_bytes()).hexdigest() == packed.digest.removeprefix("sha256:")
    environment.drop(tmp_path, packed.id)
    environment.drop(tmp_path, packed.id)
    assert not packed.path.exists()


@pytest.mark.parametrize(
    ("requirements", "said"),
    [
        ("tiny==1.0\n", "hash"),
        ("tiny==1.0 --hash=sha256:" + "0" * 64 + "\n", "hash"),
        ("absent==1.0 --hash=sha256:" + "0" * 64 + "\n", "absent"),
    ],
    ids=["no hash", "another hash", "absent"],
)
def test_what_the_lock_does_not_allow_is_refused(
    index: Path,
    tmp_path: Path,
    requirements: str,
    said: str,
) -> None:
    wheel(index)
    with pytest.raises(Rejected) as caught:
        ensure(tmp_path, requirements)
    assert caught.value.reason == "EnvironmentNotBuilt"
    assert said in caught.value.message.lower()
    assert str(index) not in caught.value.message
    assert not list((tmp_path / "environments").glob("*.tar"))


def test_a_source_package_is_refused_unread(index: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    archive = index / "tiny-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as made:
        data = f"open({str(witness)!r}, 'w').close()".encode()
        entry = tarfile.TarInfo("tiny-1.0/setup.py")
        entry.size = len(data)
        made.addfile(entry, io.BytesIO(data))
    (index / "index.html").write_text(f'<!DOCTYPE html><a href="{archive.name}">{archive.name}</a>')
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(Rejected):
        ensure(tmp_path, f"tiny==1.0 --hash=sha256:{digest}\n")
    assert not witness.exists()


def test_no_code_of_a_package_runs_on_the_runner(index: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    _, lock = wheel(index, f"open({str(witness)!r}, 'w').close()\n")
    ensure(tmp_path, lock)
    assert not witness.exists()


def test_an_index_that_does_not_answer_may_answer_later(
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, lock = wheel(index)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(Transient) as caught:
        ensure(tmp_path, lock)
    assert caught.value.reason == "IndexUnreachable"


def test_platforms_without_wheels_are_told(index: Path, tmp_path: Path) -> None:
    _, lock = wheel(index)
    with pytest.raises(Rejected) as caught:
        ensure(tmp_path, lock, platform="linux/s390x")
    assert caught.value.reason == "PlatformNotServed"


class TestOnTheMachine:
    pytestmark = REAL

    def test_packages_commands_and_pth_files_are_there(
        self,
        machine: Machine,
        index: Path,
        tmp_path: Path,
    ) -> None:
        _, lock = wheel(index)
        folder = machine.environment(tmp_path, lock.encode())
        run = Play(machine, tmp_path, "tiny-1-1", TOLD, environment=folder, command="python train.py && tiny")
        state = run.play()
        assert state["exit_code"] == 0, [state, run.log]
        assert run.log == ["1.0 /edgetrain/environment/lib/tiny.py ran", "from the command"]

    def test_numpy_without_a_network(self, machine: Machine, tmp_path: Path) -> None:
        lock = locked(tmp_path, "numpy", machine.python)
        folder = machine.environment(tmp_path, lock)
        source = """
        import socket, numpy
        print(numpy.arange(10).sum(), numpy.__file__.startswith("/edgetrain/environment/lib/"))
        print(numpy.linalg.eigvals(numpy.eye(3)).real.tolist(), [name for _, name in socket.if_nameindex()])
        """
        run = Play(machine, tmp_path, "numpy-1-1", source, environment=folder)
        state = run.play()
        assert state["exit_code"] == 0, [state, run.log]
        assert run.log == ["45 True", "[1.0, 1.0, 1.0] ['lo']"]

    def test_they_are_taken_in_whole_or_not_at_all(
        self,
        machine: Machine,
        index: Path,
        tmp_path: Path,
    ) -> None:
        _, lock = wheel(index, "# whole or not at all\n")
        packed = ensure(tmp_path, lock)
        whole = b"".join(packed.parts())
        changed = whole.replace(b"whole or not", b"WHOLE or not")
        for broken, reason in ((whole[: len(whole) // 2], "Unreachable"), (changed, "EnvironmentChanged")):
            answer = machine.call("receive", [broken], id=packed.id, digest=packed.digest, size=len(whole))
            assert answer["error"]["reason"] == reason
            assert machine.ask("environment", id=packed.id) is False
        machine.ask("receive", [whole], id=packed.id, digest=packed.digest, size=len(whole))
        machine.ask("receive", [whole], id=packed.id, digest=packed.digest, size=len(whole))
        (kept,) = [entry for entry in machine.ask("environments") if entry["id"] == packed.id]
        assert kept["size"] > 0
        assert kept["built"]
        machine.ask("drop", id=packed.id)
        machine.ask("drop", id=packed.id)
        assert machine.ask("environment", id=packed.id) is False
        left = [entry.name for entry in machine.vm.path(f"{WORK}/environments").iterdir()]
        assert [name for name in left if packed.id in name] == [f"{packed.id}.lock"]

    @pytest.mark.parametrize("kind", ["outside", "link"])
    def test_nothing_is_written_elsewhere(self, machine: Machine, kind: str) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            entry = tarfile.TarInfo("../x" if kind == "outside" else "lib")
            if kind == "link":
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
            archive.addfile(entry)
        data = buffer.getvalue()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        answer = machine.call("receive", [data], id="e" * 64, digest=digest, size=len(data))
        assert answer["error"]["reason"] == "EnvironmentChanged"
        assert not machine.vm.path(f"{WORK}/x").exists()
        assert machine.ask("environment", id="e" * 64) is False
        assert machine.call("receive", [data], id="../x", digest=digest, size=1)["error"]["reason"] == "InvalidId"


def locked(folder: Path, package: str, python: str) -> bytes:
    """A lock file for one package, by uv."""
    import uv

    (folder / "requirements.in").write_text(f"{package}\n")
    options = ["--quiet", "--generate-hashes", "--only-binary", ":all:", "--python-version", python, "--no-header"]
    command = [uv.find_uv_bin(), "pip", "compile", *options, "requirements.in", "-o", "requirements.lock"]
    subprocess.run(command, cwd=folder, check=True)
    return (folder / "requirements.lock").read_bytes()
