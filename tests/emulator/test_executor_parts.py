"""Parts of the executor by themselves: what a definition asks for, and environments that are built once."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator.executor import environments
from azureml_emulator.executor.definition import Unusable, parse


def body(**settings: Any) -> dict[str, Any]:
    return {"snapshotId": "s1", "Configuration": {"Script": "train.py", **settings}}


def packages(*entries: Any) -> dict[str, Any]:
    return body(environment={"python": {"condaDependencies": {"dependencies": list(entries)}}})


def test_keys_in_any_case_but_variables_as_they_are() -> None:
    """The service ignores the case of keys; names of variables are no keys."""
    job = parse(
        body(
            ENVIRONMENTVARIABLES={"Path_To": "x", "PATH_TO": "y"},
            Environment={"EnvironmentVariables": {"Own": 1, "Path_To": "under"}},
            maxrundurationseconds=5,
        )
    )
    assert job.variables == {"Own": "1", "Path_To": "x", "PATH_TO": "y"}
    assert (job.snapshot, job.seconds, job.managed) == ("s1", 5.0, True)


@pytest.mark.parametrize(
    ("conda", "pip"),
    [
        ("scikit-learn", "scikit-learn"),
        ("numpy=1.26", "numpy==1.26.*"),
        ("numpy==1.26.4", "numpy==1.26.4"),
        ("conda-forge::numpy>=1.26,<2", "numpy>=1.26,<2"),
        ("numpy=1.26.*", "numpy==1.26.*"),
    ],
)
def test_conda_packages_come_from_the_index(conda: str, pip: str) -> None:
    """Under the same name, with the version in pip's words."""
    assert parse(packages(conda)).requirements == (pip,)


def test_python_and_options_are_taken_out() -> None:
    """The interpreter is no package, and the machine knows its own index."""
    job = parse(
        packages("python=3.10.18", "pip=23.0", {"pip": ["--extra-index-url https://x/simple", "a==1", "b[c]>=2"]})
    )
    assert job.python == "3.10"
    assert job.requirements == ("a==1", "b[c]>=2")
    assert job.dropped == ("--extra-index-url https://x/simple",)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (body(script="", Script=None), "neither a script nor a command"),
        (body(nodeCount=2), "more than one node"),
        (packages("rm -rf /; x"), "not understood"),
        ({"SnapshotId": "s1"}, "no Configuration"),
    ],
)
def test_what_makes_no_sense(settings: dict[str, Any], words: str) -> None:
    """The person is told what was not understood."""
    with pytest.raises(Unusable, match=words):
        parse(settings)


def test_image_only_where_it_is_asked_for() -> None:
    """A base image alone does not make a container."""
    docker = {
        "baseImage": "train:1",
        "baseImageRegistry": {"address": "reg.local", "username": "u", "password": "p"},
    }
    assert parse(body(environment={"docker": docker})).image is None
    job = parse(
        body(environment={"docker": docker}, docker={"useDocker": True, "shmSize": "1g", "arguments": ["-x"]})
    )
    assert job.image is not None
    assert (job.image.name, job.image.username) == ("reg.local/train:1", "u")
    assert job.engine_arguments == ("--shm-size", "1g", "-x")


@pytest.mark.parametrize(
    ("machine", "libc", "platform"),
    [
        ("x86_64", "2.36", "x86_64-manylinux_2_28"),
        ("amd64", "2.17", "x86_64-manylinux2014"),
        ("arm64", "2.31", "aarch64-manylinux_2_28"),
        ("x86_64", "", "x86_64-manylinux2014"),
    ],
)
def test_platform(machine: str, libc: str, platform: str) -> None:
    """Wheels for the machine that runs them, not for this one."""
    assert environments.platform_of(machine, libc) == platform


def test_environment_is_built_once(tmp_path: Path) -> None:
    """The order of requirements makes no other environment; a failed build leaves nothing that looks built."""
    first = environments.ensure(tmp_path, [], "3.11", "x86_64-manylinux_2_28", {})
    made = first.path.stat()
    again = environments.ensure(tmp_path, [""], "3.11", "x86_64-manylinux_2_28", {})
    assert (again.digest, again.path.stat().st_mtime_ns) == (first.digest, made.st_mtime_ns)
    with tarfile.open(first.path) as archive:
        assert set(archive.getnames()) == {"bin", "lib"}
    with pytest.raises(environments.NotBuilt):
        environments.ensure(tmp_path, ["not a requirement"], "3.11", "x86_64-manylinux_2_28", {})
    assert [path.name for path in tmp_path.glob("*.tgz")] == [first.path.name]
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
