"""A released image end to end: this repository's own model on the serving base, pushed, and run by podman."""

from __future__ import annotations

import csv
import http.client
import json
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import onnxruntime
import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.image.assembly import About, assemble, scoring_files
from edgetrain.image.layer import LayerFile
from testbed.base_image import Base
from testbed.part import until
from testbed.registry import Registry
from testbed.vm import Vm
from tests.experiments.test_training_scripts import data, environment, train

from .reach import reach

__all__ = ["data", "environment"]  # fixtures

pytestmark = [
    pytest.mark.needs("mmdebstrap"),
    pytest.mark.needs("registry"),
    pytest.mark.needs("skopeo"),
    pytest.mark.needs("vm"),
]

ABOUT = About(
    title="breast-cancer",
    version="4",
    revision="5" * 40,
    created="2026-10-01T12:00:00Z",
    labels={"edgetrain.x": "y"},
)
SIGNATURE = {
    "inputs": [{"name": "measurements", "type": "tensor", "datatype": "FP32", "shape": [-1, 10]}],
    "outputs": [
        {"name": "label", "type": "tensor", "datatype": "INT64", "shape": [-1]},
        {"name": "probabilities", "type": "tensor", "datatype": "FP32", "shape": [-1, 2]},
    ],
}
FACTS = {"identity": "sha256:" + "a" * 64, "record": "sha256:" + "b" * 64, "signature": SIGNATURE}


@dataclass
class Released:
    """A model image in the registry, and the model itself."""

    reference: str
    digest: str
    model: Path
    rows: list[list[float]]


@dataclass
class Running:
    """A container of it on the VM."""

    vm: Vm
    name: str
    port: int

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        link = http.client.HTTPConnection(self.vm.address, self.port, timeout=30)
        try:
            link.request(method, path, None if body is None else json.dumps(body).encode())
            answer = link.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            link.close()

    def ready(self) -> bool:
        try:
            return self.ask("GET", "/v2/health/ready")[0] == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def released(
    serve_image: Base,
    registry_open: Registry,
    environment: Path,
    data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Released:
    """Trained by its own script, assembled on the base, pushed and tagged."""
    outputs = tmp_path_factory.mktemp("breast-cancer") / "outputs"
    train("breast-cancer", environment, data, outputs, {})
    model = outputs / "model.onnx"
    registry = reach(registry_open)
    base = registry.base(serve_image.push(registry_open))
    image = assemble(
        about=ABOUT,
        scoring=scoring_files("breast-cancer", 4, FACTS),
        model=[LayerFile("model/model.onnx", model.stat().st_size, lambda: model.open("rb"))],
        base=base,
        base_name="base/serve",
    )
    repository = f"models/{secrets.token_hex(4)}/breast-cancer"
    digest = registry.push(repository, image)
    for tag in ("4", "production"):
        registry.tag(repository, tag, digest)
    with (data / "breast-cancer" / "tumours.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    names = [name for name in table[0] if name.startswith("mean_")]
    return Released(repository, digest, model, [[float(row[name]) for name in names] for row in table])


@pytest.fixture(scope="module")
def running(released: Released, registry_open: Registry, vm: Vm) -> Iterator[Running]:
    """`podman run -p`, with a root that nothing can write to and no rights."""
    name = registry_open.name_at(vm.host_address)
    vm.trust_registry(name, registry_open.ca_bundle)
    reference = f"{name}/{released.reference}:production"
    vm.run(["podman", "pull", "--quiet", reference])
    container = f"serve-{secrets.token_hex(4)}"
    command = ["podman", "run", "--detach", "--name", container, "--publish=8080:8080", "--read-only"]
    command += ["--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges", "--memory=512m"]
    vm.run([*command, "--pids-limit=128", reference])
    server = Running(vm, container, 8080)
    try:
        until(server.ready, "the model to be loaded")
        yield server
    finally:
        vm.run(["podman", "rm", "--force", "--time=5", container])


def predictions(released: Released) -> tuple[Any, Any]:
    """What the model itself says of all rows, here."""
    session = onnxruntime.InferenceSession(str(released.model), providers=["CPUExecutionProvider"])
    rows = numpy.array(released.rows, dtype=numpy.float32)
    label, probabilities = session.run(["label", "probabilities"], {"measurements": rows})
    return label, probabilities


def test_every_endpoint_answers(running: Running) -> None:
    assert running.ask("GET", "/v2/health/live") == (200, {"live": True})
    assert running.ask("GET", "/v2/health/ready") == (200, {"ready": True})
    for path in ("/v2/models/breast-cancer", "/v2/models/breast-cancer/versions/4"):
        status, told = running.ask("GET", path)
        assert (status, told["name"], told["versions"]) == (200, "breast-cancer", ["4"])
        assert told["signature"] == SIGNATURE
        assert told["inputs"] == [{"name": "measurements", "datatype": "FP32", "shape": [-1, 10]}]
    assert running.ask("GET", "/metadata") == (200, {**FACTS, "model": "breast-cancer", "version": 4})
    assert running.ask("GET", "/v2/models/breast-cancer/versions/3")[0] == 404


def test_real_rows_are_scored_as_by_the_model_itself(running: Running, released: Released) -> None:
    label, probabilities = predictions(released)
    status, told = running.ask("POST", "/score", {"rows": released.rows})
    assert status == 200
    assert told["outputs"]["label"] == label.tolist()
    numpy.testing.assert_allclose(told["outputs"]["probabilities"], probabilities, rtol=1e-6)


@pytest.mark.parametrize("path", ["/v2/models/breast-cancer/infer", "/v2/models/breast-cancer/versions/4/infer"])
def test_the_protocol_gives_the_same(running: Running, released: Released, path: str) -> None:
    label, probabilities = predictions(released)
    shape = [len(released.rows), len(released.rows[0])]
    tensor = {"name": "measurements", "shape": shape, "datatype": "FP32", "data": released.rows}
    status, told = running.ask("POST", path, {"inputs": [tensor]})
    assert status == 200
    outputs = {one["name"]: one for one in told["outputs"]}
    assert outputs["label"]["data"] == label.tolist()
    numpy.testing.assert_allclose(outputs["probabilities"]["data"], probabilities.ravel(), rtol=1e-6)


def test_it_runs_without_rights_on_a_read_only_root(running: Running) -> None:
    look = "import os; print(os.getuid(), os.getgid(), open('/proc/1/cmdline').read().split('\\0')[:2])"
    done = running.vm.run(["podman", "exec", running.name, "python3", "-c", look])
    assert done.stdout.split() == ["65532", "65532", "['python3',", "'/app/score.py']"]
    for place in ("/app/x", "/model/x", "/tmp/x", "/x"):
        tried = running.vm.run(
            ["podman", "exec", running.name, "python3", "-c", f"open('{place}', 'w')"], check=False
        )
        assert tried.returncode != 0
        assert "Read-only file system" in tried.stderr or "Permission denied" in tried.stderr


def test_podman_pulled_what_was_pushed(running: Running, released: Released) -> None:
    look = ["podman", "inspect", "--format", "{{.ImageDigest}}", running.name]
    assert running.vm.run(look).stdout.strip() == released.digest


def test_skopeo_sees_and_copies_it_as_it_is(released: Released, registry_open: Registry, tmp_path: Path) -> None:
    def skopeo(*arguments: str) -> str:
        done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    place = f"docker://{registry_open.name}/{released.reference}"
    seen = json.loads(skopeo("inspect", *registry_open.skopeo(""), f"{place}:production"))
    assert seen["Digest"] == released.digest
    assert seen["Labels"]["org.opencontainers.image.version"] == "4"
    assert len(seen["Layers"]) == 4
    options = ("--insecure-policy", "copy", "--quiet", "--preserve-digests")
    skopeo(*options, *registry_open.skopeo("src"), f"{place}:4", f"dir:{tmp_path / 'out'}")
    assert digest_bytes((tmp_path / "out" / "manifest.json").read_bytes()) == released.digest
    mirror = f"mirror/{secrets.token_hex(8)}"
    target = f"docker://{registry_open.name}/{mirror}:copied"
    skopeo(*options, *registry_open.skopeo("dest"), f"dir:{tmp_path / 'out'}", target)
    registry = reach(registry_open)
    assert registry.tags(mirror) == {"copied": released.digest}
    assert registry.has(mirror, released.digest)
