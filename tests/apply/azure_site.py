"""The small site with a workspace of type azureml and a cluster attached to it, both in memory.

Runs on the cluster are local runs: what is proved here is what apply does around them, not how Azure ML runs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgetrain.core.ports import Settings, TargetSettings, TargetStatus
from edgetrain.providers.local.provider import LocalCompute
from edgetrain.providers.local.provider import from_settings as local_from_settings
from edgetrain.providers.table import PROVIDERS, Row
from tests.apply.site import SmallSite
from tests.contract.memory_attachments import MemoryAttachments
from tests.contract.memory_workspace import MemoryWorkspace
from tests.core.build import WORKSPACE

PROBES: dict[Path, str] = {}
ATTACHED: dict[Path, MemoryAttachments] = {}
WORKSPACES: dict[Path, MemoryWorkspace] = {}
CLUSTER = """\
apiVersion: edgetrain/v1
kind: ComputeTarget
metadata: {name: NAME}
spec:
  type: azureml-kubernetes
  site: here
  azuremlKubernetes: {resourceId: ID, namespace: training}
  capacity: {slots: 2}
"""
RESOURCE = (
    "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/rg"
    "/providers/Microsoft.Kubernetes/connectedClusters/"
)


def attachments(settings: Settings) -> MemoryAttachments:
    """The attachments of the site's workspace; they outlive an apply."""
    return ATTACHED.setdefault(settings.state, MemoryAttachments())


def workspace(settings: Settings) -> MemoryWorkspace:
    """The site's workspace; it outlives an apply."""
    return WORKSPACES.setdefault(settings.state, MemoryWorkspace())


def compute(settings: TargetSettings) -> LocalCompute:
    """Runs as on the runner itself."""
    return local_from_settings(settings)


class LookedAt(LocalCompute):
    """A target whose sandbox is known only once a run has looked: `PROBES` says how far that is."""

    def observe(self) -> TargetStatus:
        far = PROBES.get(self.state, "NotProbed")
        return replace(super().observe(), **({"ready": False, "reason": far} if far != "Done" else {}))

    def probe(self) -> None:
        """Begin to look."""
        PROBES.setdefault(self.state, "Probing")


def looked_at(settings: TargetSettings) -> LookedAt:
    """As `compute`, to be looked at first."""
    return LookedAt(
        name=settings.name,
        state=settings.state,
        allow_unsandboxed=settings.allow_unsandboxed,
        capacity=settings.capacity,
    )


def serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the table of providers name these."""
    monkeypatch.setitem(PROVIDERS, ("attachments", "azureml"), Row(f"{__name__}:attachments"))
    monkeypatch.setitem(PROVIDERS, ("workspace", "azureml"), Row(f"{__name__}:workspace"))
    monkeypatch.setitem(PROVIDERS, ("compute", "azureml-kubernetes"), Row(f"{__name__}:compute"))


def cluster(name: str) -> str:
    """The manifest of a cluster."""
    return CLUSTER.replace("NAME", name).replace("ID", RESOURCE + name)


def move_to_azure(site: SmallSite) -> None:
    """Edit the workspace in `edgetrain.yaml`; not committed."""
    text = (site.clone / "edgetrain.yaml").read_text()
    site.write("edgetrain.yaml", text.replace("spec:\n", "spec:\n" + WORKSPACE, 1))


def train_on_cluster(site: SmallSite) -> None:
    """Let the experiment train on the cluster `hub` of a workspace in Azure; pushed."""
    move_to_azure(site)
    site.write("compute/hub.yaml", cluster("hub"))
    site.edit("experiments/mean/experiment.yaml", "compute: runner", "compute: hub")
    site.push("Train on the cluster")


def place(site: SmallSite) -> MemoryAttachments:
    """What the site's workspace has attached."""
    return ATTACHED[site.state.resolve()]


def move_back(site: SmallSite) -> None:
    """Edit it back."""
    text = (site.clone / "edgetrain.yaml").read_text()
    site.write("edgetrain.yaml", text.replace(WORKSPACE, ""))
