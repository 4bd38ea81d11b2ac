"""Environments as the unmodified client uses them: registered once per definition, labelled, built or not."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator import environments
from azureml_emulator.server import RunningEmulator
from azureml_emulator.tokens import Tokens
from testbed.registry import Registry
from tests.emulator import support
from tests.emulator.images import push_image

pytestmark = pytest.mark.long(0.3)


def base(emulator: RunningEmulator, version: str = "v1.0") -> str:
    return f"/environment/{version}{emulator.emulator.workspace_path}/environments"


def ask(
    emulator: RunningEmulator, method: str, path: str, body: Any = None, principal: str = "owner"
) -> tuple[int, Any]:
    jwt = Tokens(emulator.emulator).issue(principal, "aml")
    status, said, _ = support.ask(emulator, method, path, body, jwt)
    return status, said


def environment(name: str, image: str = "emuacr.azurecr.io/base:1", **variables: str) -> Any:
    from azureml.core import Environment

    made = Environment(name)
    made.python.user_managed_dependencies = True
    made.docker.base_image = image
    made.environment_variables = variables
    return made


def test_same_definition_is_one_version(emulator: RunningEmulator) -> None:
    from azureml.core import Environment

    ws = support.connect(emulator)
    first = environment("train", A="b").register(ws)
    again = environment("train", A="b").register(ws)
    other = environment("train", A="c").register(ws)
    # Names of variables belong to the user: case counts.
    third = environment("train", a="b").register(ws)
    assert [made.version for made in (first, again, other, third)] == ["1", "1", "2", "3"]
    found = Environment.get(ws, "train")
    assert (found.version, found.environment_variables) == ("3", {"a": "b"})
    found = Environment.get(ws, "train", "1")
    assert found.docker.base_image == "emuacr.azurecr.io/base:1"
    assert found.python.user_managed_dependencies is True
    # What was read and is registered again is still the same.
    found.version = None
    assert found.register(ws).version == "1"
    assert {name: item.version for name, item in ws.environments.items()} == {"train": "3"}


def test_conda_dependencies_come_back(emulator: RunningEmulator) -> None:
    from azureml.core import Environment
    from azureml.core.conda_dependencies import CondaDependencies

    ws = support.connect(emulator)
    made = Environment("conda")
    made.python.conda_dependencies = CondaDependencies.create(
        conda_packages=["numpy=1.26"], pip_packages=["scikit-learn==1.5.0"], pin_sdk_version=False
    )
    made.register(ws)
    found = Environment.get(ws, "conda").python.conda_dependencies
    assert "numpy=1.26" in list(found.conda_packages)
    assert list(found.pip_packages) == ["scikit-learn==1.5.0"]


def test_versions_of_ones_own_and_labels(emulator: RunningEmulator) -> None:
    from azureml.core import Environment

    ws = support.connect(emulator)
    mine = environment("labelled", A="1")
    mine.version = "2024.01"
    assert mine.register(ws).version == "2024.01"
    assert mine.register(ws).version == "2024.01"
    mine.environment_variables = {"A": "2"}
    with pytest.raises(Exception, match="Code: 409"):
        mine.register(ws)
    mine.version = None
    assert mine.register(ws).version == "1"
    Environment.label(ws, "labelled", "2024.01", ["stable", "prod"])
    assert Environment.get(ws, "labelled", label="stable").version == "2024.01"
    Environment.label(ws, "labelled", "1", ["stable"])
    assert Environment.get(ws, "labelled", label="stable").version == "1"
    assert Environment.get(ws, "labelled", label="prod").version == "2024.01"
    assert Environment.get(ws, "labelled", label="latest").version == "1"
    with pytest.raises(Exception, match="Code: 404"):
        Environment.get(ws, "labelled", label="nosuch")


@pytest.mark.parametrize("name", ["AzureML-sklearn", "microsoft.own", "-x", "a b"])
def test_names_of_the_service_are_refused(emulator: RunningEmulator, name: str) -> None:
    with pytest.raises(Exception, match="Code: 400"):
        environment(name).register(support.connect(emulator))


def test_what_is_not_there(emulator: RunningEmulator) -> None:
    from azureml.core import Environment

    ws = support.connect(emulator)
    with pytest.raises(Exception, match="Code: 404"):
        Environment.get(ws, "nosuch")
    environment("there").register(ws)
    with pytest.raises(Exception, match="Code: 404"):
        Environment.get(ws, "there", "7")
    bad = {"Name": "other"}
    assert ask(emulator, "PUT", f"{base(emulator)}/there", bad)[0] == 400
    assert ask(emulator, "PUT", f"{base(emulator)}/there", {"python": []})[0] == 400
    assert ask(emulator, "PUT", f"{base(emulator)}/there/versions/1/metadata", {"Labels": "x"})[0] == 400
    assert ask(emulator, "PUT", f"{base(emulator)}/there/versions/1/metadata", {"Labels": ["latest"]})[0] == 400


def test_keys_in_any_case_are_one_definition(emulator: RunningEmulator) -> None:
    address = f"{base(emulator)}/cased"
    one = {"Name": "cased", "Docker": {"BaseImage": "x/y:1"}, "EnvironmentVariables": {"A": "b"}}
    two = {"name": "cased", "docker": {"baseImage": "x/y:1"}, "environmentVariables": {"A": "b"}}
    status, made = ask(emulator, "PUT", address, one)
    assert (status, made) == (200, {**two, "version": "1"})
    assert ask(emulator, "PUT", address, two)[1]["version"] == "1"


def test_lists_have_pages(make_emulator: Callable[..., RunningEmulator]) -> None:
    from azureml.core import Environment

    emulator = make_emulator(page_size=2)
    ws = support.connect(emulator)
    for index in range(5):
        environment(f"e{index}").register(ws)
    assert sorted(Environment.list(ws)) == [f"e{index}" for index in range(5)]


def test_reader_reads_only(emulator: RunningEmulator) -> None:
    environment("mine").register(support.connect(emulator))
    assert ask(emulator, "GET", f"{base(emulator)}/mine", principal="reader")[0] == 200
    assert ask(emulator, "PUT", f"{base(emulator)}/mine", {}, principal="reader")[0] == 403


def test_recipe_holds_what_a_local_build_needs(emulator: RunningEmulator) -> None:
    body = {"python": {"condaDependencies": {"dependencies": ["python=3.11"]}}}
    assert ask(emulator, "PUT", f"{base(emulator)}/conda", body)[0] == 200
    status, said = ask(emulator, "POST", f"{base(emulator)}/conda/versions/1/recipe", {"platform": "Linux"})
    assert (status, said["buildEnvironmentScriptName"]) == (200, "build.sh")
    own = {"python": {"userManagedDependencies": True}}
    assert ask(emulator, "PUT", f"{base(emulator)}/own", own)[0] == 200
    assert ask(emulator, "POST", f"{base(emulator)}/own/recipe", {})[0] == 400


@pytest.fixture
def real() -> Iterator[Registry]:
    with Registry("open") as part:
        yield part


@pytest.mark.needs("registry")
def test_build_succeeds_where_the_image_is_there_already(
    make_emulator: Callable[..., RunningEmulator], real: Registry
) -> None:
    emulator = make_emulator(registry=real.url)
    push_image(real.url, "base", "1")
    ws = support.connect(emulator)
    made = environment("built").register(ws)
    assert made.get_image_details(ws)["imageExistsInRegistry"] is True
    assert made.get_image_details(ws)["dockerImage"]["name"] == "base:1"
    with contextlib.redirect_stdout(io.StringIO()):
        details = made.build(ws).wait_for_completion(show_output=False)
    assert details.status == "Succeeded"
    missing = environment("missing", "emuacr.azurecr.io/base:2").register(ws)
    assert missing.get_image_details(ws)["imageExistsInRegistry"] is False
    assert missing.build(ws).status == "Failed"


def test_build_fails_with_the_reason(emulator: RunningEmulator) -> None:
    ws = support.connect(emulator)
    elsewhere = environment("elsewhere", "docker.io/library/python:3.11").register(ws)
    begun = elsewhere.build(ws)
    assert begun.status == "Failed"
    assert "not in the workspace's registry" in begun.get_log()
    emulator.change(slow=3600.0)
    assert elsewhere.build(ws).status == "Running"
    assert elsewhere.build(ws, image_build_compute="cpu").status == "Running"
    assert ask(emulator, "GET", f"{base(emulator, 'v2.0').removesuffix('environments')}builds/nosuch")[0] == 404


def test_environments_outlive_the_emulator(make_emulator: Callable[..., RunningEmulator], tmp_path: Path) -> None:
    first = make_emulator()
    environment("kept", A="b").register(support.connect(first))
    first.stop()
    second = make_emulator(folder=first.folder)
    found = environments.get(second.emulator, "kept")
    assert environments.public(found)["environmentVariables"] == {"A": "b"}
