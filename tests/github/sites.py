"""The site's repository over the real parts of a site: VM, blob store, registry; and over Azure ML's stand-in."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path
from typing import Any

from edgetrain.core.kinds import Configuration
from edgetrain.core.ports import Registry
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.state import read_tip
from edgetrain.repo.git import Git
from images import build
from testbed.azure import AzureSite
from testbed.site import SITE, Testbed
from tests.apply.site import EXPERIMENT, MODEL, SCRIPT
from tests.github.site import GithubSite

Spec = dict[str, Any]


class EdgeGithubSite(GithubSite):
    """A repository whose experiment trains in a container on the testbed's VM, with the data in its blob store."""

    registry_name = "site"

    def __init__(self, folder: Path, testbed: Testbed, **actions: Any) -> None:
        super().__init__(folder, **actions)
        self.testbed = testbed
        self.name = f"t{uuid.uuid4().hex[:12]}"
        self.image = ""

    def make(self) -> None:
        self.spec = self.site_spec()
        self.spec["sites"][SITE]["datastores"]["site-data"].update(container=self.name, prefix="data")
        self.spec["artifacts"].update(container=self.name, prefix="edgetrain")
        self.put("a.txt", "1 2 3\n")
        super().make()

    def site_spec(self) -> Spec:
        """The `spec` of edgetrain.yaml, as the testbed has it; sets the image to train in."""
        base = self.testbed.base()
        self.image = base.reference(self.testbed.registry)
        return self.testbed.configuration(self.state, image=base)

    def target_spec(self) -> Spec:
        """The `spec` of the VM's compute manifest."""
        return self.testbed.compute()

    def configuration(self) -> Spec:
        own, theirs = super().configuration(), self.spec
        proxy = theirs.get("proxy", {})
        bundle = self.folder / "authorities.pem"
        texts = [self.server.ca.read_text(), *([Path(proxy["caBundle"]).read_text()] if proxy else [])]
        bundle.write_text("".join(texts))
        shared = {"secrets": {**theirs["secrets"], **own["secrets"]}, "proxy": {**proxy, "caBundle": str(bundle)}}
        return {**theirs, "forge": own["forge"], "machine": own["machine"], **shared}

    def manifests(self) -> dict[str, str]:
        vm = self.testbed.vm
        target = self.target_spec()
        target["ssh"]["workFolder"] = f"/var/tmp/{self.name}"
        experiment = EXPERIMENT.replace("compute: runner", f"compute: {vm.name}")
        experiment = experiment.replace("datastore: store", "datastore: site-data")
        experiment += f"  environment: {{image: '{self.image}', python: '{build.PYTHON}'}}\n"
        return {
            f"compute/{vm.name}.yaml": self.document("ComputeTarget", vm.name, target),
            "experiments/mean/experiment.yaml": experiment,
            "experiments/mean/train.py": SCRIPT,
            "models/mean/model.yaml": MODEL.replace("{repository: mean}", f"{{repository: {self.name}}}"),
        }

    # What happens at the site

    def put(self, name: str, text: str) -> None:
        self.testbed.azurite.put(self.name, {f"data/table/{name}": text.encode()})

    def runs(self) -> list[Path]:
        folders = self.testbed.vm.path(f"/var/tmp/{self.name}/runs").glob("*/outputs")
        return sorted(folder.parent for folder in folders)

    @property
    def images(self) -> str:
        return self.name

    def opened(self) -> Site:
        """The site's providers, as an apply makes them."""
        clone = self.folder / "clone"
        if not clone.exists():
            subprocess.run(["git", "clone", "--quiet", self.actions.bare.path, clone], check=True)
        configuration: Configuration = read_tip(Git.find(clone), "main").desired.configuration
        return Site(configuration, SITE, clone)

    def registry(self) -> Registry:
        return self.opened().registry(self.registry_name)

    def tickets(self) -> list[str]:
        return [name for name, _ in self.opened().artifacts.claims("tickets/")]


class AzureGithubSite(EdgeGithubSite):
    """The same with Azure ML as workspace, which starts the runs on the VM."""

    testbed: AzureSite
    registry_name = "acr"

    def __init__(self, folder: Path, testbed: AzureSite) -> None:
        super().__init__(folder, testbed, variables={"EDGETRAIN_EXTRAS": "azureml"})

    def site_spec(self) -> Spec:
        self.image = self.testbed.push("train")
        return self.testbed.azure(self.state, self.image)

    def target_spec(self) -> Spec:
        return self.testbed.attached()
