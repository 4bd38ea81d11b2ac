"""The environment in which a client, a shell or a test reaches the emulator."""

from __future__ import annotations

from pathlib import Path

from azureml_emulator.certificates import Certificates
from azureml_emulator.emulator import Emulator

CLOUD = "EmulatedAzure"
TOPOLOGIES = ("A", "B")


def environment(
    emulator: Emulator, topology: str, proxy_port: int, files: Certificates, config: Path | None = None
) -> dict[str, str]:
    """For `A` the proxy and the bundle; for `B` the custom cloud. Raises ValueError for another."""
    if topology not in TOPOLOGIES:
        raise ValueError(f"topology {topology!r} is none of A and B")
    # What the client caches about a cloud has no expiry: another port is another folder.
    place = config or emulator.options.folder / "client" / f"{topology.lower()}-{emulator.port}"
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    both = {
        "AZURE_CONFIG_DIR": str(place),
        "REQUESTS_CA_BUNDLE": str(files.bundle),
        "SSL_CERT_FILE": str(files.bundle),
    }
    if topology == "A":
        proxy = f"http://127.0.0.1:{proxy_port}"
        return {**both, "HTTPS_PROXY": proxy, "https_proxy": proxy, "NO_PROXY": "", "no_proxy": ""}
    metadata = f"https://localhost:{emulator.port}/metadata/endpoints?api-version=2019-05-01"
    return {
        **both,
        "ARM_CLOUD_METADATA_URL": metadata,
        "AZUREML_CURRENT_CLOUD": CLOUD,
        "NO_PROXY": "localhost,127.0.0.1",
        "no_proxy": "localhost,127.0.0.1",
    }


def identity(emulator: Emulator) -> dict[str, str]:
    """What names the workspace."""
    options = emulator.options
    return {
        "AZUREML_EMULATOR_SUBSCRIPTION": options.subscription,
        "AZUREML_EMULATOR_GROUP": options.group,
        "AZUREML_EMULATOR_WORKSPACE": options.workspace,
        "AZUREML_EMULATOR_TENANT": options.tenant,
    }
