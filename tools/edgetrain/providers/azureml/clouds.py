"""Clouds: the public one, the sovereign ones, and those that `edgetrain.yaml` declares (Azure Stack Hub, others).

The cloud of the workspace and the cloud of the edge are two things: the first is what azureml-core is given, the
second is only for calls made directly. A declared cloud that does not say how to sign in is asked at its own
Resource Manager, `/metadata/endpoints`: an array in newer versions, a single object from an Azure Stack Hub.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.problem import did_you_mean

METADATA = "/metadata/endpoints"
# Newest first; the last is what an Azure Stack Hub speaks.
VERSIONS = ("2019-05-01", "2015-01-01")
# Resource Manager, authority, audience of its tokens, portal, and the suffixes of storage, vaults and registries.
_KNOWN = {
    "AzureCloud": (
        "https://management.azure.com",
        "https://login.microsoftonline.com",
        "https://management.core.windows.net/",
        "https://portal.azure.com",
        ("core.windows.net", "vault.azure.net", "azurecr.io"),
    ),
    "AzureUSGovernment": (
        "https://management.usgovcloudapi.net",
        "https://login.microsoftonline.us",
        "https://management.core.usgovcloudapi.net/",
        "https://portal.azure.us",
        ("core.usgovcloudapi.net", "vault.usgovcloudapi.net", "azurecr.us"),
    ),
    "AzureChinaCloud": (
        "https://management.chinacloudapi.cn",
        "https://login.chinacloudapi.cn",
        "https://management.core.chinacloudapi.cn/",
        "https://portal.azure.cn",
        ("core.chinacloudapi.cn", "vault.azure.cn", "azurecr.cn"),
    ),
}
BUILT_IN = tuple(_KNOWN)
# Asks for JSON: address and query in, document out.
Ask = Callable[[str, Mapping[str, str]], Any]


@dataclass(frozen=True)
class Cloud:
    """One cloud. Addresses have no trailing slash, suffixes no leading dot; `custom` ones were declared.

    `discovery` replaces the discovery address that a workspace names, where it is given.
    """

    name: str
    resource_manager: str
    authority: str
    audience: str
    portal: str = ""
    storage_suffix: str = ""
    vault_suffix: str = ""
    registry_suffix: str = ""
    profile: str = "latest"
    custom: bool = False
    discovery: str = ""

    @property
    def adfs(self) -> bool:
        """Whether one signs in at an ADFS: its authority has no tenants."""
        return urlsplit(self.authority).path.rstrip("/").lower().endswith("/adfs")

    @property
    def ml_audience(self) -> str:
        """The audience of Azure ML's own tokens: of the portal's domain, as the SDK derives it."""
        domain = ".".join((urlsplit(self.portal).hostname or "portal.azure.com").split(".")[2:])
        return f"https://ml.azure.{domain}" if domain else self.audience

    def authority_of(self, tenant: str) -> str:
        """The authority to sign in at for a tenant."""
        return self.authority if self.adfs else f"{self.authority}/{tenant}"

    def holds_registry(self, host: str) -> bool:
        """Whether a registry's host is of this cloud, so that its token may be sent there."""
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        suffix = self.registry_suffix.lower()
        return bool(suffix) and (name.lower() == suffix or name.lower().endswith(f".{suffix}"))


def cloud_of(name: str, clouds: Mapping[str, Mapping[str, Any]], ask: Ask) -> Cloud:
    """A cloud by name: a built-in one, or a declared one. Raises NotFound, or Rejected if it can't be used."""
    if name in clouds:
        return _declared(name, clouds[name], ask)
    if name not in _KNOWN:
        raise NotFound(
            f"cloud {name} is not known{did_you_mean(name, [*_KNOWN, *clouds])}",
            reason="CloudUnknown",
            fix=f"declare it in edgetrain.yaml under spec.clouds, or name one of {', '.join(_KNOWN)}",
        )
    arm, authority, audience, portal, (storage, vault, registry) = _KNOWN[name]
    return Cloud(name, arm, authority, audience, portal, storage, vault, registry)


def _declared(name: str, block: Mapping[str, Any], ask: Ask) -> Cloud:
    arm = str(block["resourceManager"]).rstrip("/")
    told: Mapping[str, Any] = {}
    if not {"activeDirectory", "activeDirectoryResourceId"} <= block.keys():
        told = _metadata(name, arm, ask)
    cloud = Cloud(
        name=name,
        resource_manager=arm,
        authority=str(block.get("activeDirectory") or told.get("authority", "")).rstrip("/"),
        audience=str(block.get("activeDirectoryResourceId") or told.get("audience", "")),
        portal=str(told.get("portal", "")),
        storage_suffix=str(block.get("storageSuffix") or told.get("storage", "")).lstrip("."),
        vault_suffix=str(block.get("keyVaultSuffix") or told.get("vault", "")).lstrip("."),
        registry_suffix=str(block.get("registrySuffix") or told.get("registry", "")).lstrip("."),
        profile=str(block.get("profile", "latest")),
        custom=True,
        discovery=str(block.get("azureml", "")).rstrip("/"),
    )
    for what, url in (("resourceManager", cloud.resource_manager), ("activeDirectory", cloud.authority)):
        if urlsplit(url).scheme != "https" or not urlsplit(url).hostname:
            raise Rejected(
                f"cloud {name}: {what} is no https address",
                reason="CloudUnusable",
                fix=f"write it in edgetrain.yaml: spec.clouds.{name}.{what}",
            )
    if not cloud.audience:
        raise Rejected(
            f"cloud {name} does not say for what audience its tokens are",
            reason="CloudUnusable",
            fix=f"write it in edgetrain.yaml: spec.clouds.{name}.activeDirectoryResourceId",
        )
    return cloud


def _metadata(name: str, arm: str, ask: Ask) -> Mapping[str, Any]:
    """What the cloud says of itself, by our names. The first version that answers is taken."""
    for version in VERSIONS[:-1]:
        # An Azure Stack Hub refuses versions that it does not know.
        with contextlib.suppress(NotFound, Rejected):
            return _read(name, arm, ask(f"{arm}{METADATA}", {"api-version": version}))
    return _read(name, arm, ask(f"{arm}{METADATA}", {"api-version": VERSIONS[-1]}))


def _read(name: str, arm: str, document: Any) -> Mapping[str, Any]:
    entries = [one for one in (document if isinstance(document, list) else [document]) if isinstance(one, Mapping)]

    def same(entry: Mapping[str, Any]) -> bool:
        return str(entry.get("resourceManager", "")).rstrip("/").lower() == arm.lower()

    named = [entry for entry in entries if str(entry.get("name", "")).lower() == name.lower()]
    found = next(iter([*named, *filter(same, entries), *(entries if len(entries) == 1 else [])]), None)
    signing = found.get("authentication") if found else None
    audiences = signing.get("audiences") if isinstance(signing, Mapping) else None
    if not isinstance(found, Mapping) or not isinstance(signing, Mapping) or not isinstance(audiences, list):
        raise Rejected(
            f"cloud {name} does not describe itself",
            reason="CloudUnusable",
            fix=f"write activeDirectory and activeDirectoryResourceId in edgetrain.yaml: spec.clouds.{name}",
        )
    suffixes = found.get("suffixes")
    suffixes = suffixes if isinstance(suffixes, Mapping) else {}
    return {
        "authority": signing.get("loginEndpoint", ""),
        "audience": audiences[0] if audiences else "",
        "portal": found.get("portal") or found.get("portalEndpoint", ""),
        "storage": suffixes.get("storage", ""),
        "vault": suffixes.get("keyVaultDns", ""),
        "registry": suffixes.get("acrLoginServer", ""),
    }


def sdk_cloud(cloud: Cloud) -> Any:
    """The cloud as azureml-core's own class, for its authentication object.

    Given there, it needs no metadata address in the environment: that would be fetched while the SDK is imported,
    and could be of one cloud in the whole process.
    """
    from azureml._vendor.azure_cli_core.cloud import Cloud as SdkCloud
    from azureml._vendor.azure_cli_core.cloud import CloudEndpoints, CloudSuffixes

    return _as(SdkCloud, CloudEndpoints, CloudSuffixes, cloud)


def register(cloud: Cloud, ours: Collection[str]) -> Any:
    """Register a declared cloud with azure-cli-core, and make it the active one; the CLI's context. To be called
    inside `process.importing`.

    Raises Rejected where azure-cli-core serves a configuration folder that is none of `ours`: a person's profile is
    not written to.
    """
    from azure.cli.core import __version__, get_default_cli
    from azure.cli.core._config import GLOBAL_CONFIG_DIR
    from azure.cli.core.cloud import (
        Cloud as CliCloud,
    )
    from azure.cli.core.cloud import (
        CloudAlreadyRegisteredException,
        CloudEndpoints,
        CloudSuffixes,
        add_cloud,
        switch_active_cloud,
        update_cloud,
    )
    from azure.cli.core.profiles import API_PROFILES

    if GLOBAL_CONFIG_DIR not in ours:
        raise Rejected(
            f"cloud {cloud.name} can't be registered: the Azure CLI's own profile is in use in this process",
            reason="ProfileInUse",
            fix="register the cloud with `az cloud register`, or sign in by another type than cli",
        )
    # A context of the CLI asks the internet for newer versions, unless it knows of one.
    known = {"versions": {"core": {"local": __version__}}, "update_time": str(datetime.now())}
    (Path(GLOBAL_CONFIG_DIR) / "versionCheck.json").write_text(json.dumps(known), "utf-8")
    context = get_default_cli()
    wanted = _as(CliCloud, CloudEndpoints, CloudSuffixes, cloud)
    # This release of azure-cli-core has no profiles of an Azure Stack Hub any more; our calls name their versions.
    wanted.profile = cloud.profile if cloud.profile in API_PROFILES else "latest"
    try:
        add_cloud(context, wanted)
    except CloudAlreadyRegisteredException:
        update_cloud(context, wanted)
    switch_active_cloud(context, cloud.name)
    return context


def _as(kind: Any, endpoints: Any, suffixes: Any, cloud: Cloud) -> Any:
    return kind(
        cloud.name,
        endpoints=endpoints(
            management=cloud.audience,
            resource_manager=cloud.resource_manager,
            active_directory=cloud.authority,
            active_directory_resource_id=cloud.audience,
            portal=cloud.portal or None,
        ),
        suffixes=suffixes(
            storage_endpoint=cloud.storage_suffix or None,
            keyvault_dns=f".{cloud.vault_suffix}" if cloud.vault_suffix else None,
            acr_login_server_endpoint=f".{cloud.registry_suffix}" if cloud.registry_suffix else None,
        ),
    )
