"""Images of environments. Nothing is built: only an environment that is its base image has one, namely that."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azureml_emulator import upstream
from azureml_emulator.message import Refused

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator
    from azureml_emulator.message import Request

BUILD = "environment build"


def details(emulator: Emulator, request: Request, environment: dict[str, Any]) -> dict[str, Any]:
    """The image of a registered environment, and whether the workspace's registry has it."""
    address = urlsplit(emulator.urls_of(request).registry).netloc
    name, problem = _base(environment, address)
    return {
        "imageExistsInRegistry": not problem and upstream.has(emulator, name),
        "dockerImage": {
            "name": name or f"azureml/azureml_{environment['digest'][:32]}",
            "registry": {"address": address, "username": None, "password": None},
        },
        "pythonEnvironment": (environment["definition"].get("python") or {}).get("condaDependencies"),
    }


def start(emulator: Emulator, request: Request, environment: dict[str, Any]) -> str:
    """Begin what the service calls a build; its id. How it ends is known at once and told after `slow`."""
    address = urlsplit(emulator.urls_of(request).registry).netloc
    name, problem = _base(environment, address)
    if not problem and not upstream.has(emulator, name):
        problem = f"the workspace's registry has no image {name}"
    key = uuid.uuid4().hex
    log = (
        f"Image {name} is there: nothing to build." if not problem else f"The emulator builds no images: {problem}."
    )
    emulator.store.put(
        BUILD,
        key,
        {"since": emulator.now(), "failed": bool(problem), "log": log, "environment": environment["name"]},
    )
    return key


def state(emulator: Emulator, key: str) -> dict[str, Any]:
    """A build: `status` and its text. Raises Refused (404)."""
    found = emulator.store.get(BUILD, key)
    if found is None:
        raise Refused(404, "UserError", "there is no such build")
    if emulator.now() - found["since"] < emulator.options.slow:
        return {"status": "Running", "log": ""}
    return {"status": "Failed" if found["failed"] else "Succeeded", "log": found["log"]}


def _base(environment: dict[str, Any], address: str) -> tuple[str, str]:
    """The name of the base image in the workspace's registry, and why it is not the environment's image."""
    definition = environment["definition"]
    docker, python = definition.get("docker") or {}, definition.get("python") or {}
    image = docker.get("baseImage")
    if not image or docker.get("baseDockerfile"):
        return "", "the environment has no base image of its own"
    host = (docker.get("baseImageRegistry") or {}).get("address") or ""
    first, _, rest = str(image).partition("/")
    if not host and rest and ("." in first or ":" in first):
        host, image = first, rest
    if host.lower() != address.lower():
        return "", f"the base image is not in the workspace's registry {address}"
    if not python.get("userManagedDependencies"):
        return "", "the environment asks for packages beyond its base image"
    return str(image), ""
