"""The environment service: definitions, versions, labels, recipes, images and their builds."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

from azureml_emulator import environments, images
from azureml_emulator.message import Answer, Refused, Request
from azureml_emulator.routing import route

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

ALL = "/environment/v1.0{WS}/environments"
ONE = ALL + "/{name*}"
VERSION = ONE + "/versions/{version}"
BUILD = "/environment/v2.0{WS}/environments/{name*}/versions/{version}"


@route("GET", ALL)
@route("GET", ALL + "/")
def list_all(emulator: Emulator, request: Request) -> Answer:
    """One page of the newest versions."""
    found = environments.newest_of_each(emulator)
    after = request.query.get("continuation") or request.query.get("continuationToken") or ""
    found = [item for item in found if item["name"] > after]
    shown = found[: emulator.options.page_size]
    token = shown[-1]["name"] if len(found) > len(shown) else None
    return Answer(200, {"value": [environments.public(item) for item in shown], "continuationToken": token})


@route("GET", VERSION + "/image")
def image(emulator: Emulator, request: Request, name: str, version: str) -> Answer:
    """The image of a version."""
    return Answer(200, images.details(emulator, request, environments.get(emulator, name, version)))


@route("GET", ONE + "/image")
def image_of_newest(emulator: Emulator, request: Request, name: str) -> Answer:
    """The image of the newest version."""
    return Answer(200, images.details(emulator, request, environments.get(emulator, name)))


@route("PUT", VERSION + "/metadata")
def metadata(emulator: Emulator, request: Request, name: str, version: str) -> Answer:
    """Set the labels of a version."""
    environments.set_labels(emulator, name, version, request.json())
    return Answer(200, environments.public(environments.get(emulator, name, version)))


@route("GET", ONE + "/labels/{label}")
def by_label(emulator: Emulator, request: Request, name: str, label: str) -> Answer:
    """The version with a label."""
    return Answer(200, environments.public(environments.labelled(emulator, name, label)))


@route("POST", VERSION + "/recipe", writes=False)
def recipe(emulator: Emulator, request: Request, name: str, version: str) -> Answer:
    """What a local build needs: scripts that build the Python environment from the definition."""
    return Answer(200, _recipe(environments.get(emulator, name, version)))


@route("POST", ONE + "/recipe", writes=False)
def recipe_of_newest(emulator: Emulator, request: Request, name: str) -> Answer:
    """The recipe of the newest version."""
    return Answer(200, _recipe(environments.get(emulator, name)))


@route("GET", VERSION)
def get_version(emulator: Emulator, request: Request, name: str, version: str) -> Answer:
    """One version."""
    return Answer(200, environments.public(environments.get(emulator, name, version)))


@route("PUT", VERSION)
def put_version(emulator: Emulator, request: Request, name: str, version: str) -> Answer:
    """Register under a version of the asker's choice."""
    return Answer(200, environments.public(environments.register(emulator, name, version, request.json())))


@route("GET", ONE)
def get_newest(emulator: Emulator, request: Request, name: str) -> Answer:
    """The newest version."""
    return Answer(200, environments.public(environments.get(emulator, name)))


@route("PUT", ONE)
def put(emulator: Emulator, request: Request, name: str) -> Answer:
    """Register; the service gives the version."""
    return Answer(200, environments.public(environments.register(emulator, name, None, request.json())))


@route("POST", BUILD + "/image")
def build(emulator: Emulator, request: Request, name: str, version: str) -> Answer:
    """Begin to build the image of a version."""
    return _begun(emulator, request, environments.get(emulator, name, version))


@route("POST", BUILD + "/imageoncompute/{compute}")
def build_on_compute(emulator: Emulator, request: Request, name: str, version: str, compute: str) -> Answer:
    """The same on a compute target of the workspace's."""
    return _begun(emulator, request, environments.get(emulator, name, version))


def _begun(emulator: Emulator, request: Request, environment: dict[str, Any]) -> Answer:
    key = images.start(emulator, request, environment)
    return Answer(202, {"location": _address(emulator, request, key)})


def _address(emulator: Emulator, request: Request, key: str) -> str:
    return f"{emulator.urls_of(request).api}/environment/v2.0{emulator.workspace_path}/builds/{key}"


@route("GET", "/environment/v2.0{WS}/builds/{key}")
def build_state(emulator: Emulator, request: Request, key: str) -> Answer:
    """How a build stands."""
    found = images.state(emulator, key)
    log = f"{_address(emulator, request, key)}/log"
    return Answer(200, {"status": found["status"], "logUrl": log, "environmentBuildId": key})


@route("GET", "/environment/v2.0{WS}/builds/{key}/log", audience="anyone")
def build_log(emulator: Emulator, request: Request, key: str) -> Answer:
    """The log of a build. The client asks for it without a token, as for a signed address."""
    text = images.state(emulator, key)["log"].encode()
    return Answer(200, text, {"Content-Type": "text/plain; charset=utf-8"})


_BUILD_SCRIPT = """#!/bin/sh
# Builds the environment's Python packages with conda.
set -eu
cd "$(dirname "$0")"
exec conda env create --yes --prefix ./env --file conda_dependencies.yml
"""
_CHECK_SCRIPT = """#!/bin/sh
# Succeeds where the environment was built before.
test -x "$(dirname "$0")/env/bin/python"
"""


def _recipe(environment: dict[str, Any]) -> dict[str, Any]:
    python = environment["definition"].get("python") or {}
    if python.get("userManagedDependencies") or not python.get("condaDependencies"):
        raise Refused(400, "UserError", "the environment's packages are the user's own: there is nothing to build")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("build.sh", _BUILD_SCRIPT)
        archive.writestr("check.sh", _CHECK_SCRIPT)
        # JSON is YAML.
        archive.writestr("conda_dependencies.yml", json.dumps(python["condaDependencies"], indent=2))
    return {
        "setupContentZip": base64.b64encode(packed.getvalue()).decode(),
        "buildEnvironmentScriptName": "build.sh",
        "checkEnvironmentScriptName": "check.sh",
        "environmentVariables": environment["definition"].get("environmentVariables") or {},
    }
