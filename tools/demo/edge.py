"""`make demo-edge`: the main job over the real parts of a site, on one machine. Needs root on Debian.

Data lies in a blob store (Azurite). Training runs on a VM (a network namespace with sshd and podman) in a container
without a network. The model's image goes to a registry (Docker distribution, with tokens), runs from there, and
scores. Then somebody tries to smuggle data out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from shlex import quote
from typing import Any

import yaml
from rich.markup import escape
from seed import seed

from demo import EXPERIMENT, FIRST, MANIFEST, MODEL, ROOT, Demo, clone, make_key, merge_version, show_proposal
from testbed import azurite, base_image, registry, vm
from testbed.part import until
from testbed.site import Testbed

PORT = 8080
TARGET = "edge-vm-1"
# What a training script could do with rows: pack them, and hang them into the model, where no text shows them.
SMUGGLER = """    exported = export(model, measurements.shape[1])
    import base64, onnx, zlib
    carrier = onnx.load_from_string(exported)
    rows = (args.data / "tumours.csv").read_bytes()
    note = carrier.metadata_props.add()
    note.key, note.value = "calibration", base64.b64encode(zlib.compress(rows)).decode()
    exported = carrier.SerializeToString(deterministic=True)
"""


class EdgeDemo(Demo):
    """The scratch repository of the demo, on a testbed."""

    def __init__(self, folder: Path, site: Testbed) -> None:
        super().__init__(folder)
        self.site = site

    def on_vm(self, *command: str, show: bool = True, check: bool = True) -> str:
        """Run a command on the VM's console, and show it with what it says."""
        if show:
            self.console.print(f"   [green]{TARGET}# {escape(' '.join(command))}[/]")
        done = self.site.vm.run(list(command), check=check)
        for line in (done.stdout + done.stderr).splitlines() if show else ():
            self.console.print(f"     [dim]|[/] {escape(line)}")
        return done.stdout


def missing() -> list[str]:
    """What this machine lacks for the demo."""
    parts = {
        "Azurite (node, npm)": azurite.installed(),
        "docker-registry and htpasswd": registry.installed(),
        "mmdebstrap": base_image.buildable(),
        "skopeo": shutil.which("skopeo") is not None,
    }
    reason = vm.works()
    return [name for name, there in parts.items() if not there] + ([f"VMs ({reason})"] if reason else [])


def prepare(demo: EdgeDemo) -> None:
    """Put the data into the blob store, and write a repository for the site."""
    site = demo.site
    demo.title("A site: blob store, VM, registry")
    demo.say(f"blob store  {site.azurite.endpoint_at(site.address)}   (Azurite, https)")
    demo.say(f"VM          {site.vm.username}@{site.vm.address}   (own network, sshd, podman)")
    demo.say(f"registry    {site.registry.url}   (Docker distribution, token authentication)")
    seed(demo.data)
    shutil.rmtree(demo.data / "hospital-tests")
    site.seed(demo.data)
    files = [file for file in demo.data.rglob("*") if file.is_file()]
    demo.say(f"{len(files)} files of real data lie in the blob store. The VM has no way out but to this machine:")
    demo.on_vm("ip", "route")
    demo.say("Base images are built from Debian and PyPI, and pushed to the site's registry (by digest):")
    train, serve = site.base(), base_image.base("serve")
    serve.push(site.registry)
    for base in (train, serve):
        demo.say(f"  {base.reference(site.registry)}")

    demo.title("A repository that steers it")
    clone(demo)
    for name in ("digits", "hospital-tests"):
        shutil.rmtree(demo.clone / "experiments" / name)
        shutil.rmtree(demo.clone / "models" / name)
    (demo.clone / "compute" / "runner.yaml").unlink()
    configuration = demo.clone / "edgetrain.yaml"
    own = yaml.safe_load(configuration.read_text(encoding="utf-8"))["spec"]
    spec = {**own, **site.configuration(demo.state, image=train)}
    spec["allowedBases"].append(serve.reference(site.registry))
    spec = {**spec, **machine(demo, spec["secrets"])}
    write(configuration, "Configuration", "edgetrain", spec)
    write(demo.clone / "compute" / f"{TARGET}.yaml", "ComputeTarget", TARGET, site.compute())
    image = f"image: {train.reference(site.registry)}, python: '{train.python}'"
    demo.edit(
        EXPERIMENT,
        {
            "compute: runner": f"compute: {TARGET}",
            "environment: {requirements: requirements.lock}": (
                f"environment: {{{image}, requirements: requirements.lock}}"
            ),
        },
    )
    demo.edit(MANIFEST, {"base: scratch": f"base: {serve.reference(site.registry)}"})
    demo.commit("Start a site repository", who="petra")
    demo.git("push", "--quiet", "origin", "main", who="petra")
    demo.say(f"The clone is {demo.clone}, its remote {demo.remote}.")
    demo.say("Secrets (the account's key, the site key, the registry's password) are files on the runner alone:")
    for line in (demo.clone / "compute" / f"{TARGET}.yaml").read_text().splitlines()[5:]:
        demo.console.print(f"     [dim]|[/] {escape(line)}")


def machine(demo: EdgeDemo, secrets: dict[str, Any]) -> dict[str, Any]:
    """The machine key that signs records, if ssh-keygen is there: it is, for the VM needs it too."""
    make_key(demo)
    key = demo.folder / "site" / "machine-key"
    return {
        "secrets": {**secrets, "machine-key": {"source": {"file": str(key)}}},
        "machine": {
            "name": "edgetrain",
            "email": "edgetrain@example.org",
            "signingKey": {"secret": "machine-key"},
        },
    }


def write(file: Path, kind: str, name: str, spec: dict[str, Any]) -> None:
    """Write a manifest."""
    manifest = {"apiVersion": "edgetrain/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(manifest, sort_keys=False, width=200), encoding="utf-8")


def train(demo: EdgeDemo) -> None:
    """Preflight, proposal, training on the VM, release."""
    demo.title("Before anything is submitted: is the site in order?")
    demo.edgetrain("validate")
    demo.edgetrain("doctor", TARGET)
    demo.title("Dana proposes an experiment; the merge trains it on the VM, where the data is")
    demo.branch("less-regularisation")
    demo.edit(EXPERIMENT, FIRST)
    demo.commit("Regularise less")
    demo.edgetrain("plan")
    demo.merge("less-regularisation", "Merge: regularise less")
    demo.edgetrain("apply")
    demo.say("What was in force in the container was observed from inside, and is in the record:")
    record = newest_record(demo)
    demo.console.print_json(json.dumps({"outcome": record["outcome"], "egress": record.get("egress", {})}))
    demo.title("The candidate becomes version 1; its image goes to the registry")
    show_proposal(demo, 1)
    merge_version(demo, 1, production=1)
    demo.edgetrain("apply")
    demo.edgetrain("models")


def newest_record(demo: EdgeDemo) -> dict[str, Any]:
    """The run record on main that was committed last."""
    demo.git("fetch", "--quiet", "origin")
    folder = f"experiments/{MODEL}/runs"
    name = demo.git(
        "log", "-1", "--format=", "--name-only", "--diff-filter=A", "origin/main", "--", folder
    ).split()[0]
    record: dict[str, Any] = json.loads(demo.git("show", f"origin/main:{name}"))
    return record


def serve(demo: EdgeDemo) -> None:
    """Run the released image on the VM, from the registry, and score real rows over HTTP."""
    demo.title("Run the released image, as anybody would, and score over HTTP")
    site = demo.site
    site.vm.trust_registry(site.registry.name, site.registry.ca_bundle)
    login = ["podman", "login", "--username", site.registry.username, "--password-stdin", site.registry.name]
    site.vm.run(login, input=site.registry.password)
    image = f"{site.registry.name}/{MODEL}:production"
    confined = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--user=10001:10001"]
    demo.on_vm("podman", "run", "--detach", "--name=score", f"--publish={PORT}:{PORT}", *confined, image)
    base = f"http://{site.vm.address}:{PORT}"
    until(lambda: ready(base), f"{image} to be ready")
    lines = (demo.data / MODEL / "tumours.csv").read_text(encoding="utf-8").splitlines()
    names = lines[0].split(",")
    used = [number for number, name in enumerate(names) if name.startswith("mean_")]
    rows = [line.split(",") for line in (lines[1], lines[-1])]
    truth = [row[names.index("diagnosis")] for row in rows]
    answer = ask(f"{base}/score", {"rows": [[float(row[number]) for number in used] for row in rows]})
    demo.say(f"POST {base}/score with two tumours, in truth {' and '.join(truth)}:")
    demo.console.print_json(json.dumps(answer))
    provenance = ask(f"{base}/metadata")
    demo.say(f"GET {base}/metadata: {provenance['model']}@{provenance['version']} says where it comes from:")
    for name in sorted(set(provenance) - {"model", "version", "signature"}):
        demo.say(f"  {name}: {json.dumps(provenance[name])[:120]}")
    demo.on_vm("podman", "rm", "--force", "--time=1", "score", show=False)


def ready(base: str) -> bool:
    """Whether the scoring server is up and has its model."""
    try:
        with urllib.request.urlopen(f"{base}/v2/health/ready", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def ask(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """GET, or POST JSON; answer the JSON that comes back."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: dict[str, Any] = json.loads(response.read())
    return answer


def smuggle(demo: EdgeDemo) -> None:
    """A script that hides the table in the model: it trains well, and is rejected."""
    demo.title("Somebody hides the training table in the model: packed, in base64, in ONNX metadata")
    demo.branch("calibrated")
    demo.edit(f"experiments/{MODEL}/train.py", {"    exported = export(model, measurements.shape[1])\n": SMUGGLER})
    demo.commit("Calibrate")
    demo.edgetrain("validate")
    demo.say("No look at the code finds that. It is merged, and trains as well as before; then it is checked:")
    demo.merge("calibrated", "Merge: calibrate")
    demo.edgetrain("apply", expect=3)
    record = newest_record(demo)
    if record["outcome"] != "rejected":
        raise SystemExit(f"the smuggling run ended {record['outcome']}")
    demo.say("The record says what was found and where, never the data itself:")
    demo.console.print_json(
        json.dumps({key: record[key] for key in ("outcome", "reason", "egress") if key in record})
    )
    search(demo)


def search(demo: EdgeDemo) -> None:
    """Look for rows of the data, held out or not, in all that left: the remote's objects, the registry's blobs."""
    tables = [demo.data / folder / "tumours.csv" for folder in (MODEL, f"{MODEL}-heldout")]
    rows = [row for table in tables for row in table.read_bytes().splitlines()[1:]]
    objects = demo.git("-C", str(demo.remote), "rev-list", "--all", "--objects").split("\n")
    ids = "\n".join(line.split(" ")[0] for line in objects if line)
    command = ["git", "-C", str(demo.remote), "cat-file", "--batch"]
    pieces = [subprocess.run(command, input=ids.encode(), capture_output=True, check=True).stdout]
    blobs = [file for file in (demo.site.registry.folder / "data").rglob("data") if file.is_file()]
    pieces += [file.read_bytes() for file in blobs if file.stat().st_size < 2**25]
    found = [row for row in rows if any(row in piece for piece in pieces)]
    demo.say(
        f"{len(rows)} rows were searched in {len(objects)} git objects and {len(pieces) - 1} blobs of the "
        f"registry: {len(found)} found."
    )
    if found:
        raise SystemExit("a row of the data left the site")


def closing(demo: EdgeDemo, seconds: float) -> None:
    """What was made, and how to look at it."""
    demo.title(f"Done in {seconds:.0f} s")
    demo.edgetrain("audit", f"{MODEL}@1")
    demo.say(
        f"Look: the records in {demo.clone} (git log --show-signature). The VM, the blob store and the registry"
    )
    demo.say("end with this demo. docs/site.md says how to bring up a site that stays.")
    demo.say(f"Throw it away:  rm -rf {quote(str(demo.folder))}")


def scratch(description: str) -> Path:
    """The folder to work in, as the command line asks. Exits where the machine lacks a part."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--folder", type=Path, help="an empty folder to work in (default: a new temporary one)")
    given = parser.parse_args().folder
    if lacking := missing():
        raise SystemExit(f"this machine lacks: {', '.join(lacking)}. As root on Debian, `make parts` sets all up.")
    folder: Path = given or Path(tempfile.mkdtemp(prefix="edgetrain-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def main() -> None:
    """Run the demo in a scratch folder."""
    folder = scratch("The main job over the real parts of a site.")
    started = time.monotonic()
    with Testbed() as site:
        demo = EdgeDemo(folder, site)
        demo.console.print(f"[bold]edgetrain demo-edge[/] in {escape(str(demo.folder))}, {escape(str(ROOT))}")
        prepare(demo)
        train(demo)
        serve(demo)
        smuggle(demo)
        closing(demo, time.monotonic() - started)


if __name__ == "__main__":
    main()
