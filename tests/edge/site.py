"""A small site whose parts are real: VM over SSH with containers, blob store, registry."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import yaml

from images import build
from testbed.site import SITE, Testbed
from testbed.vm import Vm
from tests.apply.site import EXPERIMENT, SmallSite


class EdgeSite(SmallSite):
    """One repository on a testbed, which many may share: container, repository and work folder are its own."""

    def __init__(self, folder: Path, testbed: Testbed | None = None) -> None:
        super().__init__(folder)
        self.testbed = testbed
        self.name = f"t{uuid.uuid4().hex[:12]}"

    def make(self, *vms: Vm, experiment: str = EXPERIMENT, **ssh: Any) -> EdgeSite:
        """Create everything and push the first commit; one target per VM, all labelled `pool: edge`."""
        assert self.testbed is not None
        super().make()
        spec, image = self.site_spec()
        spec["sites"][SITE]["datastores"]["site-data"].update(container=self.name, prefix="data")
        spec["artifacts"].update(container=self.name, prefix="edgetrain")
        self.put({"table/a.txt": b"1 2 3\n"})
        self.manifest("edgetrain.yaml", "Configuration", None, spec)
        (self.clone / "compute/runner.yaml").unlink()
        for vm in vms or (self.testbed.vm,):
            target = self.target_spec(vm)
            target["ssh"].update(workFolder=f"/var/tmp/{self.name}", **ssh)
            self.manifest(f"compute/{vm.name}.yaml", "ComputeTarget", vm.name, target, {"pool": "edge"})
        text = experiment.replace("compute: runner", "compute: {selector: {pool: edge}}")
        text = text.replace("datastore: store", "datastore: site-data")
        text += f"  environment: {{image: '{image}', python: '{build.PYTHON}'}}\n"
        self.write("experiments/mean/experiment.yaml", text)
        self.edit("models/mean/model.yaml", "{repository: mean}", f"{{repository: {self.name}}}")
        self.push("Go to the edge")
        return self

    def site_spec(self) -> tuple[dict[str, Any], str]:
        """The `spec` of edgetrain.yaml, and the reference of the image to train in."""
        assert self.testbed is not None
        base = self.testbed.base()
        return self.testbed.configuration(self.state, image=base), base.reference(self.testbed.registry)

    def target_spec(self, vm: Vm) -> dict[str, Any]:
        """The `spec` of a VM's compute manifest."""
        assert self.testbed is not None
        return self.testbed.compute(vm)

    def manifest(
        self, path: str, kind: str, name: str | None, spec: dict[str, Any], labels: dict[str, str] | None = None
    ) -> None:
        """Write a manifest of the clone."""
        metadata: dict[str, Any] = {"name": name or "edgetrain"}
        if labels:
            metadata["labels"] = labels
        whole = {"apiVersion": "edgetrain/v1", "kind": kind, "metadata": metadata, "spec": spec}
        self.write(path, yaml.safe_dump(whole, sort_keys=False))

    def put(self, blobs: dict[str, bytes]) -> None:
        """Put private data into the site's blob store, below the datastore's root."""
        assert self.testbed is not None
        self.testbed.azurite.put(self.name, {f"data/{name}": content for name, content in blobs.items()})
