"""A base image on its way to a machine: what comes in is what was sent, or is refused."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import Rejected
from edgetrain.core.ports import BaseImage, Layer
from edgetrain.providers.ssh import image
from testbed.base_image import Base
from testbed.vm import Vm

from .machine import TOOLS, Machine, Play

TAR = "application/vnd.oci.image.layer.v1.tar"
pytestmark = [pytest.mark.needs("vm"), pytest.mark.needs("mmdebstrap"), pytest.mark.needs("skopeo")]


def other(base: BaseImage, text: str) -> BaseImage:
    """The same with one more layer, which no machine has yet."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("etc/text")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text.encode()))
    data = buffer.getvalue()
    layer = Layer(digest_bytes(data), len(data), TAR, digest_bytes(data), lambda: io.BytesIO(data))
    config = dict(base.config)
    config["rootfs"] = {"type": "layers", "diff_ids": [*base.config["rootfs"]["diff_ids"], layer.diff_id]}
    history = [*base.config["history"], {"created_by": "test"}] if base.config.get("history") else None
    config |= {"history": history} if history else {}
    return replace(base, config=config, layers=[*base.layers, layer])


def test_an_image_is_known_by_its_content(machine: Machine) -> None:
    assert machine.image.id in image.describe(machine.base).ids
    assert machine.ask("image", engine=machine.command, ids=machine.image.ids) == machine.image.id
    assert machine.ask("image", engine=machine.command, ids=["sha256:" + "0" * 64]) == ""
    told = machine.vm.run([machine.command, "images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}"]).stdout
    assert f"{machine.image.id} edgetrain.invalid/base" in told
    assert machine.image.platform == "linux/amd64"
    assert machine.image.env["PATH"]


def test_a_layer_that_was_changed_ends_the_stream(machine: Machine) -> None:
    first, *rest = machine.base.layers
    with first.open() as file:
        data = file.read()
    changed = replace(first, open=lambda: io.BytesIO(data[:-1] + bytes([data[-1] ^ 1])))
    cut = replace(first, open=lambda: io.BytesIO(data[:-1]))
    longer = replace(first, open=lambda: io.BytesIO(data + b"x"))
    for layer in (changed, cut, longer):
        with pytest.raises(Rejected) as caught:
            for _ in image.archive(replace(machine.base, layers=[layer, *rest])):
                continue
        assert caught.value.reason == "LayerChanged"


def test_what_was_changed_on_the_way_is_refused(machine: Machine) -> None:
    base = other(machine.base, "changed on the way")
    wanted = image.describe(base)
    whole = b"".join(image.archive(base))
    # One letter of a file in the last layer, another file's name, and an end that did not come.
    at = whole.rindex(b"changed on the way")
    for broken in (
        whole.replace(b"changed on the way", b"Changed on the way"),
        whole.replace(b"etc/text", b"etc/test"),
        whole[:at],
    ):
        answer = machine.call("load", [broken], engine=machine.command, ids=wanted.ids, reference=wanted.reference)
        assert answer["error"]["reason"] in ("ImageNotLoaded", "ImageChanged"), answer
        assert machine.ask("image", engine=machine.command, ids=wanted.ids) == ""


def test_another_image_is_refused_and_removed(machine: Machine) -> None:
    wanted = image.describe(other(machine.base, "wanted"))
    sent = other(machine.base, "sent")
    archive = b"".join(image.archive(sent)).replace(
        image.describe(sent).reference.encode(), wanted.reference.encode()
    )
    answer = machine.call("load", [archive], engine=machine.command, ids=wanted.ids, reference=wanted.reference)
    assert answer["error"]["reason"] == "ImageChanged", answer
    assert machine.ask("image", engine=machine.command, ids=[wanted.reference]) == ""
    with pytest.raises(Rejected):
        machine.image.called(wanted.id)


def test_an_image_with_volumes_is_refused(machine: Machine, tmp_path: Path) -> None:
    config = dict(machine.base.config)
    config["config"] = {**(config.get("config") or {}), "Volumes": {"/data": {}}}
    described = image.describe(replace(machine.base, config=config))
    assert described.volumes == ["/data"]
    with pytest.raises(Rejected) as caught:
        described.check()
    assert caught.value.reason == "ImageVolumes"


@pytest.mark.parametrize("reference", [None, "", "host/base", "host/base:latest", "host/base@sha256:12"])
def test_only_a_digest_names_a_base(reference: str | None) -> None:
    with pytest.raises(Rejected) as caught:
        image.check_reference(reference)
    assert caught.value.reason == "ImageMissing"
    assert image.check_reference("host/base@sha256:" + "a" * 64) == "sha256:" + "a" * 64


def test_what_a_run_left_is_read_in_its_own_image(machine: Machine, tmp_path: Path) -> None:
    source = """
    import json, os, pathlib
    outputs = pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"])
    (outputs / "model.txt").write_text("weights")
    (outputs / "metrics.json").write_text('{"auroc": 0.5}')
    (outputs / "link").symlink_to("/etc/passwd")
    """
    run = Play(machine, tmp_path, "harvest-1-1", source)
    assert run.play()["exit_code"] == 0, run.log
    harvest = run.instructions["harvest"]
    config = {"declared": ["model.txt"], "files": 100, "cpu": 60, "outputs": harvest["outputs"]}
    found = json.loads(machine.vm.run([*harvest["argv"], json.dumps(config)]).stdout)
    assert {file["path"] for file in found["files"]} == {"model.txt", "metrics.json"}
    assert found["metrics"] == {"auroc": 0.5}
    assert found["faults"] == ["the outputs hold a symbolic link; only regular files are accepted"]
    assert machine.vm.run([machine.command, "ps", "-aq", "--filter", f"label=edgetrain.run={run.id}"]).stdout == ""


def test_the_content_check_runs_with_a_runs_own_restrictions(machine: Machine, tmp_path: Path) -> None:
    data = machine.vm.path("/srv/edgetrain/views/checked")
    data.mkdir(parents=True)
    rows = "".join(f"{number},{number * 7919 % 10007},patient-{number * 31}\n" for number in range(400))
    (data / "rows.csv").write_text(rows)
    source = """
    import os, pathlib
    data = pathlib.Path(os.environ["EDGETRAIN_INPUT_TABLE"], "rows.csv").read_text()
    pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"], "model.txt").write_text(data)
    """
    run = Play(machine, tmp_path, "check-1-1", source, inputs={"table": "/srv/edgetrain/views/checked"})
    assert run.play()["exit_code"] == 0, run.log
    rules = {
        "files": {"model.txt": "custom_model"},
        "texts": {},
        "metrics": {},
        "history": [],
        "log": False,
        "waived": [],
        "max_expanded": 2**30,
        "seconds": 60,
    }
    config = json.dumps({**run.instructions["seen"], "rules": rules})
    found = json.loads(machine.vm.run(run.instructions["examine"], input=config).stdout)
    assert found["complete"], found
    assert found["findings"]
    assert "patient" not in json.dumps(found)


@pytest.fixture
def as_docker(base_image: Base) -> object:
    """A VM where `docker` is podman's own command of that name."""
    with Vm("docker-vm", docker=True) as vm:
        yield Machine(vm, base_image, "docker")


def test_a_command_docker_that_is_podman_is_served(as_docker: Machine, tmp_path: Path) -> None:
    assert (as_docker.engine.command, as_docker.engine.kind) == ("docker", "podman")
    run = Play(as_docker, tmp_path, "docker-1-1", "print('it ran')")
    assert run.instructions["argv"][0] == "docker"
    assert run.play()["exit_code"] == 0
    assert run.log == ["it ran"]
    found = as_docker.ask("probe", engine="absent")
    assert (found["works"], found["message"]) == (False, "it is not installed")
    assert TOOLS in json.dumps(run.instructions)
