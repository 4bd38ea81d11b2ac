"""`make demo-azure`: the main job through Azure ML, on one machine. Needs root on Debian.

The emulator stands for Azure ML, and the unmodified azureml-core talks to it by the service's own host names.
Data lies in a blob store (Azurite, as the Hub's). Merged manifests attach a VM (a network namespace with sshd and
podman), train on it through Azure ML, register, package and push to the registry behind ACR's token exchange, and
record. Then somebody changes things by hand.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from shlex import quote

import yaml
from rich.markup import escape
from seed import seed

from demo import EXPERIMENT, FIRST, MANIFEST, MODEL, ROOT, clone, merge_version, show_proposal
from edge import EdgeDemo, machine, newest_record, scratch, search, write
from testbed.azure import AzureSite

TARGET = "edge-vm-1"
# A person in the portal, by the SDK that Microsoft gives him.
BY_HAND = """
import json, sys
from azureml.core import Model, Workspace
from azureml.core.authentication import ServicePrincipalAuthentication
given = json.loads(sys.stdin.read())
auth = ServicePrincipalAuthentication(given["tenant"], given["clientId"], given["clientSecret"])
workspace = Workspace(given["subscription"], given["resourceGroup"], given["name"], auth=auth)
run = workspace.get_run(given["run"])
print("the run in Azure ML:", run.get_status(), json.dumps(run.get_metrics(), sort_keys=True))
print("its files:", ", ".join(sorted(run.get_file_names())))
model = Model(workspace, name=given["model"], version=1)
digests = {key: value for key, value in model.properties.items() if "digest" in key}
print("the model:", model.id, json.dumps(digests, sort_keys=True))
model.remove_tags(["edgetrain.channel.production"])
print("and with one click production points nowhere")
"""


class AzureDemo(EdgeDemo):
    """The scratch repository of the demo, whose site is known to Azure."""

    site: AzureSite

    def __init__(self, folder: Path, site: AzureSite) -> None:
        super().__init__(folder, site)
        self.azure = site


def prepare(demo: AzureDemo) -> None:
    """Put the data into the blob store, and write a repository for the site."""
    site = demo.azure
    demo.title("A site, and a stand-in for Azure ML")
    demo.say(f"Azure ML    {site.emulator.url}   (azureml-emulator; clients use the service's host names)")
    demo.say(f"blob store  {site.azurite.endpoint_at(site.address)}   (Azurite, as the Hub's)")
    demo.say(f"VM          {site.vm.username}@{site.vm.address}   (own network, sshd, podman)")
    demo.say(f"registry    {site.acr}   (ACR's token exchange before a Docker distribution)")
    seed(demo.data)
    shutil.rmtree(demo.data / "hospital-tests")
    site.seed(demo.data)
    train, serve = site.push("train"), site.push("serve")

    demo.title("A repository that steers it")
    clone(demo)
    for name in ("digits", "hospital-tests"):
        shutil.rmtree(demo.clone / "experiments" / name)
        shutil.rmtree(demo.clone / "models" / name)
    (demo.clone / "compute" / "runner.yaml").unlink()
    configuration = demo.clone / "edgetrain.yaml"
    own = yaml.safe_load(configuration.read_text(encoding="utf-8"))["spec"]
    spec = {**own, **site.azure(demo.state, train, serve)}
    write(configuration, "Configuration", "edgetrain", {**spec, **machine(demo, spec["secrets"])})
    image = f"image: {train}, python: '{site.image('train').python}'"
    demo.edit(
        EXPERIMENT,
        {
            "compute: runner": f"compute: {TARGET}",
            "environment: {requirements: requirements.lock}": (
                f"environment: {{{image}, requirements: requirements.lock}}"
            ),
        },
    )
    demo.edit(MANIFEST, {"base: scratch": f"base: {serve}"})
    write(demo.clone / "compute" / f"{TARGET}.yaml", "ComputeTarget", TARGET, site.attached())
    demo.commit("Start a site repository", who="petra")
    demo.git("push", "--quiet", "origin", "main", who="petra")
    demo.say("The workspace, in edgetrain.yaml (the client's secret is a file on the runner alone):")
    shown(demo, yaml.safe_dump({"workspace": spec["workspace"]}, sort_keys=False, width=200))
    demo.say("The VM, as Azure ML and the site reach it: with two keys, of which Azure gets one:")
    shown(demo, "\n".join((demo.clone / "compute" / f"{TARGET}.yaml").read_text().splitlines()[5:]))


def shown(demo: AzureDemo, text: str) -> None:
    """Print a text as it is."""
    for line in text.splitlines():
        demo.console.print(f"     [dim]|[/] {escape(line)}")


def train(demo: AzureDemo) -> None:
    """Attach, train through Azure ML, register, package."""
    demo.title("Before anything is submitted: is all in order?")
    demo.edgetrain("validate")
    demo.title("Dana proposes; the plan says what would travel to Azure")
    demo.branch("less-regularisation")
    demo.edit(EXPERIMENT, FIRST)
    demo.commit("Regularise less")
    demo.edgetrain("plan", "--refresh")
    demo.merge("less-regularisation", "Merge: regularise less")
    demo.title("The merge attaches the VM and trains on it through Azure ML")
    demo.edgetrain("apply")
    record = newest_record(demo)
    told = {key: record.get(key) for key in ("outcome", "workspace", "egress", "metricsSource", "metrics")}
    demo.console.print_json(json.dumps(told))
    demo.title("The candidate becomes version 1: registered, packaged, pushed, tagged, recorded")
    show_proposal(demo, 1)
    merge_version(demo, 1, production=1)
    demo.edgetrain("apply")
    demo.edgetrain("doctor")
    demo.edgetrain("models")


def by_hand(demo: AzureDemo) -> None:
    """Look at it with Microsoft's own client, change something there, and find that as drift."""
    demo.title("Somebody looks with Microsoft's own client, and changes something by hand")
    site = demo.azure
    workspace, owner = site.workspace(), site.emulator.principal()
    record = newest_run(demo)
    given = {
        **{key: workspace[key] for key in ("subscription", "resourceGroup", "name")},
        "tenant": workspace["auth"]["tenant"],
        "clientId": owner["clientId"],
        "clientSecret": owner["clientSecret"],
        "run": record["workspace"]["run"],
        "model": MODEL,
    }
    home = demo.folder / "somebody"
    (home / ".azureml").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", BY_HAND],
        input=json.dumps(given),
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), **site.emulator.environment("A", home / "azure")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"the client failed: {done.stderr[-2000:]}")
    shown(demo, done.stdout)
    demo.edgetrain("drift", "--exit-code", expect=4)
    demo.say(
        "Nobody reviewed that, so apply does not simply undo it or follow it: a plan that shows it is applied."
    )
    demo.edgetrain("plan", "--refresh", "--out", str(demo.folder / "plan.json"))
    demo.edgetrain("apply", "--plan", str(demo.folder / "plan.json"))
    demo.edgetrain("drift", "--exit-code")


def newest_run(demo: AzureDemo) -> dict[str, dict[str, str]]:
    """The run record that was committed last."""
    found: dict[str, dict[str, str]] = newest_record(demo)
    return found


def closing(demo: AzureDemo, seconds: float) -> None:
    """Audit and verify, and what to look at."""
    demo.title("What an auditor reads")
    demo.edgetrain("audit", f"{MODEL}@1")
    demo.edgetrain("verify", f"{MODEL}@1", "--deep")
    search(demo)
    asked = [entry for entry in demo.azure.emulator.requests if "method" in entry]
    demo.say(f"{len(asked)} of the last requests to Azure ML are in its log: edgetrain emulator log.")
    demo.title(f"Done in {seconds:.0f} s")
    demo.say(f"Look: the records in {demo.clone}. docs/azure.md says how to do this with a real workspace.")
    demo.say(f"Throw it away:  rm -rf {quote(str(demo.folder))}")


def main() -> None:
    """Run the demo in a scratch folder."""
    folder = scratch("The main job through Azure ML, on one machine.")
    started = time.monotonic()
    with AzureSite() as site:
        demo = AzureDemo(folder, site)
        demo.console.print(f"[bold]edgetrain demo-azure[/] in {escape(str(demo.folder))}, {escape(str(ROOT))}")
        prepare(demo)
        train(demo)
        by_hand(demo)
        closing(demo, time.monotonic() - started)


if __name__ == "__main__":
    main()
