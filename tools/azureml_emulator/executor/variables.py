"""The environment of a run's program: what the client reads inside a run, and the run's own variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from azureml_emulator.tokens import Tokens

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

# Names by which the service is known: a run that was submitted by them finds it through the proxy.
SERVICE_HOSTS = (".azureml.ms", ".azure.com", ".microsoftonline.com", ".windows.net", ".azurecr.io")


def by_proxy(run: Mapping[str, Any]) -> bool:
    """Whether the run speaks to the service by its real names."""
    return str(run.get("_host") or "").partition(":")[0].endswith(SERVICE_HOSTS)


def variables(
    emulator: Emulator, run: Mapping[str, Any], own: Mapping[str, str], port: int, bundle: str
) -> dict[str, str]:
    """All variables. `port` is that of the program's own loopback which leads to the emulator, or to its proxy;
    `bundle` is the file of authorities there."""
    proxied = by_proxy(run)
    urls = emulator.urls(str(run["_host"]) if proxied else f"localhost:{port}")
    token, expiry = Tokens(emulator).run(str(run["runId"]), str(run["experimentId"]))
    options = emulator.options
    found = {
        **own,
        "AZUREML_RUN_ID": str(run["runId"]),
        "AZUREML_ROOT_RUN_ID": str(run.get("rootRunId") or run["runId"]),
        "AZUREML_RUN_TOKEN": token,
        "AZUREML_RUN_TOKEN_EXPIRY": expiry,
        "AZUREML_ARM_SUBSCRIPTION": options.subscription,
        "AZUREML_ARM_RESOURCEGROUP": options.group,
        "AZUREML_ARM_WORKSPACE_NAME": options.workspace,
        "AZUREML_ARM_PROJECT_NAME": str(run["_experiment"]),
        "AZUREML_SERVICE_ENDPOINT": urls.api,
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"{urls.api}/discovery",
        "AZUREML_WORKSPACE_ID": emulator.workspace_id,
        "AZUREML_EXPERIMENT_ID": str(run["experimentId"]),
        "REQUESTS_CA_BUNDLE": bundle,
        "SSL_CERT_FILE": bundle,
        "PYTHONUNBUFFERED": "1",
    }
    if proxied:
        found |= {"HTTPS_PROXY": f"http://127.0.0.1:{port}", "NO_PROXY": ""}
    return found
