"""The one table of providers: port and type to factory, imported when used.

A factory takes the `Settings` (for a compute target, `TargetSettings`) of one declared object.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from edgetrain.core.errors import Unavailable
from edgetrain.core.ports import Settings
from edgetrain.core.problem import did_you_mean


@dataclass(frozen=True)
class Row:
    """`target` is `module:factory`; `extra` the optional dependency that brings its packages."""

    target: str
    extra: str = ""


PROVIDERS: dict[tuple[str, str], Row] = {
    ("artifacts", "azure-blob"): Row("edgetrain.providers.azure_blob.artifacts:from_settings"),
    ("artifacts", "folder"): Row("edgetrain.providers.folder.artifacts:from_settings"),
    ("attachments", "azureml"): Row("edgetrain.providers.azureml.attachments:from_settings", "azureml"),
    ("compute", "azureml-kubernetes"): Row(
        "edgetrain.providers.azureml.compute_kubernetes:from_settings", "azureml"
    ),
    ("compute", "azureml-vm"): Row("edgetrain.providers.azureml.compute_vm:from_settings", "azureml"),
    ("compute", "local"): Row("edgetrain.providers.local.provider:from_settings"),
    ("datastore", "azure-blob"): Row("edgetrain.providers.azure_blob.datastore:from_settings"),
    ("compute", "ssh"): Row("edgetrain.providers.ssh.provider:from_settings"),
    ("datastore", "folder"): Row("edgetrain.providers.folder.datastore:from_settings"),
    ("forge", "github"): Row("edgetrain.providers.github.provider:from_settings"),
    ("registry", "oci"): Row("edgetrain.providers.oci.provider:from_settings"),
    ("registry", "oci-layout"): Row("edgetrain.providers.oci_layout.provider:from_settings"),
    ("workspace", "azureml"): Row("edgetrain.providers.azureml.workspace:from_settings", "azureml"),
    ("workspace", "mlflow"): Row("edgetrain.providers.mlflow.provider:from_settings"),
}


def served(port: str) -> list[str]:
    """The types that some provider serves at this port."""
    return sorted(type_ for found, type_ in PROVIDERS if found == port)


def provider(port: str, type_: str, settings: Settings) -> Any:
    """Import and make the provider. Raises Unavailable with what to install or to write instead."""
    row = PROVIDERS.get((port, type_))
    if row is None:
        hint = did_you_mean(type_, served(port))
        raise Unavailable(
            f"no provider serves {port} of type {type_!r}{hint}",
            reason="NotServed",
            fix=f"use one of: {', '.join(served(port))}",
        )
    module, _, name = row.target.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise Unavailable(
            f"{port} {type_!r} needs a package that is not installed: {error.name}",
            reason="PackageMissing",
            fix=f"pip install 'edgetrain[{row.extra}]'"
            if row.extra
            else "install edgetrain anew with what it requires (in a checkout of it: make setup)",
        ) from error
    return factory(settings)
