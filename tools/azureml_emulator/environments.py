"""Environments: definitions, their versions and labels. The same definition is never registered twice."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from azureml_emulator import lagging
from azureml_emulator.message import Refused, insensitive

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

KIND = "environment"
LABEL = "environment label"
LATEST = "latest"
NAME = re.compile(r"[A-Za-z0-9][-._A-Za-z0-9]{0,254}")
VERSION = re.compile(r"[A-Za-z0-9][-._A-Za-z0-9]{0,254}")
# The service keeps these for its own environments.
RESERVED = ("azureml", "microsoft")
_KEYS = {
    key.lower(): key
    for key in (
        "name", "version", "environmentVariables", "inferencingStackVersion", "python", "docker", "spark", "r",
        "assetId", "autoRebuild", "interpreterPath", "userManagedDependencies", "condaDependencies",
        "baseCondaEnvironment", "condaDependenciesFile", "baseImage", "baseDockerfile", "baseImageRegistry",
        "buildContext", "sharedVolumes", "gpuSupport", "shmSize", "address", "username", "password",
        "registryIdentity", "platform", "architecture", "os", "arguments", "enabled", "repositories", "packages",
        "precachePackages", "rVersion", "rscriptPath", "snapshotDate", "cranPackages", "githubPackages",
        "customUrlPackages", "bioconductorPackages",
    )
}  # fmt: skip
# What is inside these belongs to the user, names and all.
_VERBATIM = {"environmentVariables", "condaDependencies"}


def canonical(value: Any) -> Any:
    """A definition with its keys as the service writes them, whatever the case they came in."""
    if isinstance(value, list):
        return [canonical(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, item in value.items():
        name = _KEYS.get(key.lower(), key)
        found[name] = item if name in _VERBATIM else canonical(item)
    return found


def register(emulator: Emulator, name: str, version: str | None, body: Any) -> dict[str, Any]:
    """The registered environment: a version that has this definition already, else a new one. Raises Refused."""
    if not isinstance(body, dict):
        raise Refused(400, "UserError", "the body is not an object")
    definition = canonical(body)
    for key in ("python", "docker"):
        if not isinstance(definition.get(key, {}), dict | None):
            raise Refused(400, "UserError", f"{key} is not an object")
    named = definition.pop("name", None) or name
    definition.pop("version", None)
    if named != name:
        raise Refused(400, "UserError", "the name in the body is not that of the address")
    if emulator.options.strict:
        _check(name, version)
    digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()
    with emulator.store.transaction():
        mine = versions(emulator, name)
        if version is None:
            for found in reversed(mine):
                if found["digest"] == digest:
                    return found
            version = _next(emulator, name, {found["version"] for found in mine})
        else:
            old = next((found for found in mine if found["version"] == version), None)
            if old is not None and (old["digest"] == digest):
                return old
            if old is not None and emulator.options.strict:
                raise Refused(
                    409, "UserError", f"version {version} of {name} has another definition and can't change"
                )
        document = {
            "name": name,
            "version": version,
            "digest": digest,
            "definition": definition,
            "createdTime": emulator.time(),
            "order": emulator.store.next("environment order"),
        }
        lagging.write(emulator, KIND, f"{name}\n{version}", document)
    return document


def _check(name: str, version: str | None) -> None:
    if not NAME.fullmatch(name):
        raise Refused(400, "UserError", "an environment's name has letters, digits, '-', '.' and '_'")
    if name.lower().startswith(RESERVED):
        raise Refused(400, "UserError", f"names that begin with {' or '.join(RESERVED)} are the service's own")
    if version is not None and (not VERSION.fullmatch(version) or version.lower() == LATEST):
        raise Refused(400, "UserError", "a version has letters, digits, '-', '.' and '_', and is not 'latest'")


def _next(emulator: Emulator, name: str, taken: set[str]) -> str:
    while True:
        version = str(emulator.store.next(f"environment {name}"))
        if version not in taken:
            return version


def versions(emulator: Emulator, name: str) -> list[dict[str, Any]]:
    """All versions of an environment, oldest first."""
    held = (value["now"] for _, value in emulator.store.scan(KIND, f"{name}\n"))
    return sorted((found for found in held if found is not None), key=lambda found: int(found["order"]))


def get(emulator: Emulator, name: str, version: str | None = None) -> dict[str, Any]:
    """One version, or the newest. Raises Refused (404)."""
    if version is not None:
        found = lagging.newest(emulator, KIND, f"{name}\n{version}")
    else:
        found = next(reversed(versions(emulator, name)), None)
    if found is None:
        wanted = f"{name}" if version is None else f"{name}, version {version}"
        raise Refused(404, "UserError", f"environment {wanted[:300]} was not found")
    return found


def labelled(emulator: Emulator, name: str, label: str) -> dict[str, Any]:
    """The version that has the label; `latest` is the newest. Raises Refused (404)."""
    if label.lower() == LATEST:
        return get(emulator, name)
    version = emulator.store.get(LABEL, f"{name}\n{label}")
    if version is None:
        raise Refused(404, "UserError", f"no version of environment {name[:300]} is labelled {label[:100]}")
    return get(emulator, name, str(version))


def set_labels(emulator: Emulator, name: str, version: str, body: Any) -> None:
    """Make these the labels of a version; one that another version had moves here. Raises Refused."""
    wanted = insensitive(body).get("labels") if isinstance(body, dict) else None
    if not isinstance(wanted, list) or not all(isinstance(item, str) and item for item in wanted):
        raise Refused(400, "UserError", "Labels is a list of texts")
    if any(label.lower() == LATEST for label in wanted):
        raise Refused(400, "UserError", "the label 'latest' is the service's own")
    with emulator.store.transaction():
        get(emulator, name, version)
        for key, held in emulator.store.scan(LABEL, f"{name}\n"):
            if held == version:
                emulator.store.delete(LABEL, key)
        for label in wanted:
            emulator.store.put(LABEL, f"{name}\n{label}", version)


def newest_of_each(emulator: Emulator) -> list[dict[str, Any]]:
    """The newest version of every environment, as lists see them, by name."""
    found: dict[str, dict[str, Any]] = {}
    for document in lagging.listed(emulator, KIND):
        if document["order"] >= found.get(document["name"], document)["order"]:
            found[document["name"]] = document
    return [found[name] for name in sorted(found)]


def public(document: dict[str, Any]) -> dict[str, Any]:
    """The definition as it goes out."""
    return {**document["definition"], "name": document["name"], "version": document["version"]}
