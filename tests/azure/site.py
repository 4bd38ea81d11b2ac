"""A small site tracked in Azure ML: its VM attached to it, or reached by the site alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from testbed.azure import AzureSite
from testbed.vm import Vm
from tests.contract.compute import until
from tests.edge.site import EdgeSite

TERMINAL = ("Completed", "Failed", "Canceled")


class AzureRepository(EdgeSite):
    """One repository on an Azure testbed. `attached`: Azure ML starts the runs; else the runner does, over SSH."""

    testbed: AzureSite

    def __init__(self, folder: Path, testbed: AzureSite, attached: bool = True) -> None:
        super().__init__(folder, testbed)
        self.attached = attached

    def site_spec(self) -> tuple[dict[str, Any], str]:
        image = self.testbed.push("train")
        return self.testbed.azure(self.state, image), image

    def target_spec(self, vm: Vm) -> dict[str, Any]:
        return self.testbed.attached(vm) if self.attached else self.testbed.compute(vm)

    def documents(self, kind: str) -> dict[str, Any]:
        """What the emulator remembers of a kind, by key."""
        return dict(self.testbed.emulator.emulator.store.scan(kind))

    def models(self) -> list[Any]:
        """The registered models, as the unmodified client lists them."""
        from azureml.core import Model

        return sorted(Model.list(self.client()), key=lambda model: (model.name, model.version))

    def runs(self) -> list[dict[str, Any]]:
        """The runs as they stand."""
        return [run for _, run in sorted(self.documents("run").items())]

    def ended_runs(self) -> list[dict[str, Any]]:
        """The runs once Azure ML is done with them: it may take longer than the site."""
        until(lambda: all(run["status"] in TERMINAL for run in self.runs()), "Azure ML to be done with its runs")
        return self.runs()

    def client(self) -> Any:
        """The workspace, by the unmodified client, as anybody would open it."""
        from azureml.core import Workspace
        from azureml.core.authentication import ServicePrincipalAuthentication

        emulator = self.testbed.emulator
        options, owner = emulator.emulator.options, emulator.principal()
        auth = ServicePrincipalAuthentication(options.tenant, owner["clientId"], owner["clientSecret"])
        return Workspace(options.subscription, options.group, options.workspace, auth=auth)

    def run_log(self, run_id: str, folder: Path) -> str:
        """What Azure ML has as the run's logs."""
        run = self.client().get_run(run_id)
        for prefix in ("user_logs", "system_logs"):
            run.download_files(prefix=prefix, output_directory=str(folder), append_prefix=True)
        return "\n".join(file.read_text() for file in sorted(folder.rglob("*.*")))

    def end_state(self) -> dict[str, Any]:
        """What must be the same whatever went wrong; no time, host or commit id in it."""
        records, opened = self.records(), self.opened()
        tags = opened.registry("acr").tags(self.name)
        return {
            "records": sorted(records),
            "commits": {path: self.commits_of(path) for path in records},
            "outcomes": [r["outcome"] for r in records.values() if r["kind"] == "RunRecord"],
            "branches": self.branches(),
            "runs": [
                (run["runId"], run["status"], run["tags"].get("edgetrain.outcome")) for run in self.ended_runs()
            ],
            "models": [(model.id, model.tags.get("edgetrain.version"), model.run_id) for model in self.models()],
            "channels": [sorted(tag for tag in model.tags if "channel" in tag) for model in self.models()],
            "computes": sorted(self.client().compute_targets),
            "tags": sorted(name if not name.startswith("git-") else "git-" for name in tags),
            "images": len(set(tags.values())),
            "tickets": list(opened.artifacts.claims("tickets/")),
            "artifacts": len(list(opened.artifacts.digests())),
        }
