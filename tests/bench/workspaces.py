"""What a workspace in Azure costs where nobody is asked: `validate` and the offline `plan`, beside MLflow's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.apply.azure_site import move_to_azure
from tests.apply.site import SmallSite
from tests.bench.runner import EDGETRAIN, Contestant, Race, command
from tests.bench.sample import with_experiments

SIZE, UNIT = 100, "experiments"


def bench(folder: Path, size: int) -> Iterator[Race]:
    """Two races on the same repository; only `spec.workspace` differs."""
    sites = {"mlflow": SmallSite(folder / "mlflow"), "azureml": SmallSite(folder / "azureml")}
    for workspace, site in sites.items():
        site.make()
        if workspace == "azureml":
            move_to_azure(site)
        with_experiments(site, size)
    for verb, note in (
        ("validate", "No Azure package is imported: the workspace is a block to check like any other."),
        ("plan", "Offline, so nobody is asked; beside it the plan tells what each run would take to Azure."),
    ):
        contestants = [
            Contestant(f"`edgetrain {verb}`, workspace `{workspace}`", command(EDGETRAIN, verb, cwd=site.clone))
            for workspace, site in sites.items()
        ]
        yield Race(f"`{verb}` of {size} experiments by workspace", contestants, 7, note)
