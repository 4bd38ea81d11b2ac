"""Images: the same to the byte for the same inputs, and telling what they are."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import Rejected
from edgetrain.core.ports import BaseImage, Image
from edgetrain.image.assembly import About, assemble, scoring_files
from edgetrain.image.layer import LayerFile, tar_layer

OCI = "org.opencontainers.image."
ABOUT = About(
    title="cxr-triage",
    version="3",
    revision="5" * 40,
    created="2026-10-01T12:00:00+02:00",
    source="https://git.example/hosp/models",
    description="Orders the reading list; not a diagnosis.",
    vendor="St. Anna",
    labels={"edgetrain.model": "cxr-triage", "edgetrain.identity": "sha256:" + "a" * 64},
)
SCORING = [LayerFile.of_bytes("app/score.py", b"print('score')\n")]
MODEL = [LayerFile.of_bytes("model/model.onnx", b"weights")]


def base(**changes: Any) -> BaseImage:
    layers = [tar_layer([LayerFile.of_bytes(f"usr/{n}", b"x")], 0) for n in range(2)]
    config: dict[str, Any] = {
        "os": "linux",
        "architecture": "arm64",
        "variant": "v8",
        "config": {
            "Env": ["PATH=/usr/bin"],
            "WorkingDir": "/srv",
            "User": "root",
            "Cmd": ["bash"],
            "Entrypoint": ["/init"],
            "Volumes": {"/data": {}},
            "Labels": {"base.label": "kept", OCI + "title": "base", "edgetrain.model": "other"},
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created_by": "a"}, {"created_by": "ENV", "empty_layer": True}, {"created_by": "b"}],
    }
    return BaseImage("sha256:" + "b" * 64, config | changes, tuple(layers))


def made(**changes: Any) -> Image:
    return assemble(**({"about": ABOUT, "scoring": SCORING, "model": MODEL} | changes))


def test_the_golden_image() -> None:
    """Changes only if images made before can't be made again: then say so in the changelog."""
    assert (
        digest_bytes(made().manifest) == "sha256:9e524a321ad2e95cbe930d02b9f977c8777c02e7430d2424a4b44e3f277a796d"
    )
    assert (
        digest_bytes(made(base=base(), base_name="onnx-serve").manifest)
        == "sha256:95c6cc9c710b088e1462bffe651cda2fbbede485d327c2059477fa45ca735ebf"
    )


def test_the_manifest_names_config_and_layers() -> None:
    image = made(base=base())
    manifest = json.loads(image.manifest)
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == image.media_type
    assert manifest["config"]["digest"] == digest_bytes(image.config)
    assert manifest["config"]["size"] == len(image.config)
    assert [layer["digest"] for layer in manifest["layers"]] == [layer.digest for layer in image.layers]
    assert list(image.layers[:2]) == list(base().layers)
    config = json.loads(image.config)
    assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in image.layers]


def test_it_tells_what_it_is() -> None:
    image = made(base=base(), base_name="onnx-serve")
    told = {
        OCI + "title": "cxr-triage",
        OCI + "version": "3",
        OCI + "revision": "5" * 40,
        OCI + "created": "2026-10-01T10:00:00Z",
        OCI + "source": "https://git.example/hosp/models",
        OCI + "description": "Orders the reading list; not a diagnosis.",
        OCI + "vendor": "St. Anna",
        OCI + "base.digest": "sha256:" + "b" * 64,
        OCI + "base.name": "onnx-serve",
    }
    assert json.loads(image.manifest)["annotations"] == told
    config = json.loads(image.config)
    assert config["created"] == "2026-10-01T10:00:00Z"
    assert config["config"]["Labels"] == {**told, **ABOUT.labels, "base.label": "kept"}


def test_without_a_base_it_only_carries() -> None:
    image = made()
    config = json.loads(image.config)
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert set(config["config"]) == {"User", "Labels"}
    assert config["config"]["User"] == "65532:65532"
    assert len(image.layers) == len(config["history"]) == 2
    annotations = json.loads(image.manifest)["annotations"]
    assert not any("base" in name for name in annotations)
    plain = made(about=replace(ABOUT, source="", description="", vendor=""))
    assert OCI + "source" not in json.loads(plain.manifest)["annotations"]


def test_on_a_base_it_serves_without_root() -> None:
    config = json.loads(made(base=base()).config)
    assert (config["os"], config["architecture"], config["variant"]) == ("linux", "arm64", "v8")
    labels = config["config"].pop("Labels")
    assert labels["edgetrain.model"] == "cxr-triage"
    assert config["config"] == {
        "Env": ["PATH=/usr/bin"],
        "WorkingDir": "/srv",
        "User": "65532:65532",
        "Entrypoint": ["python3", "/app/score.py"],
        "ExposedPorts": {"8080/tcp": {}},
    }
    assert [entry["created_by"] for entry in config["history"]] == [
        "a",
        "ENV",
        "b",
        "edgetrain: scoring server",
        "edgetrain: model",
    ]


@pytest.mark.parametrize("history", [None, [], [{"created_by": "a"}], ["a", "b"], "ab"])
def test_a_base_without_a_fit_history_gets_one(history: object) -> None:
    config = json.loads(made(base=base(history=history)).config)
    assert len(config["history"]) == len(config["rootfs"]["diff_ids"]) == 4


texts = st.text(st.characters(codec="utf-8"), max_size=20)


@given(
    st.builds(
        About,
        title=texts,
        version=texts,
        revision=texts,
        created=st.datetimes(min_value=datetime(1970, 1, 2)).map(lambda t: f"{t:%Y-%m-%dT%H:%M:%SZ}"),
        labels=st.dictionaries(st.from_regex(r"edgetrain\.[a-z]{1,9}", fullmatch=True), texts),
    ),
    st.binary(max_size=3000),
    st.booleans(),
)
def test_the_same_inputs_give_the_same_bytes(about: About, weights: bytes, on_base: bool) -> None:
    def once(reverse: bool) -> Image:
        files = [LayerFile.of_bytes("model/a.onnx", weights), LayerFile.of_bytes("model/b.txt", b"")]
        labels = dict(sorted(about.labels.items(), reverse=reverse))
        return assemble(
            about=replace(about, labels=labels),
            scoring=SCORING,
            model=files[::-1] if reverse else files,
            base=base() if on_base else None,
        )

    assert once(False) == once(True)


def test_every_input_counts() -> None:
    images = [
        made(),
        made(base=base()),
        made(base=base(), base_name="x"),
        made(scoring=[LayerFile.of_bytes("app/score.py", b"")]),
        made(model=[LayerFile.of_bytes("model/model.onnx", b"Weights")]),
        made(about=replace(ABOUT, created="2026-10-01T12:00:01+02:00")),
        made(about=replace(ABOUT, revision="6" * 40)),
        made(about=replace(ABOUT, labels={})),
    ]
    assert len({digest_bytes(image.manifest) for image in images}) == len(images)
    assert made(about=replace(ABOUT, created="2026-10-01T10:00:00Z")) == made()


@pytest.mark.parametrize(
    "created", ["", "now", "2026-10-01", "2026-10-01T12:00:00", "1969-01-01T00:00:00Z", "2026-13-01T00:00:00Z"]
)
def test_a_bad_time_is_refused(created: str) -> None:
    with pytest.raises(Rejected) as caught:
        made(about=replace(ABOUT, created=created))
    assert caught.value.reason == "BadTime"


@pytest.mark.parametrize("name", ["", "A", "a b", "a/b", OCI + "title", "a\n"])
def test_a_bad_label_is_refused(name: str) -> None:
    with pytest.raises(Rejected) as caught:
        made(about=replace(ABOUT, labels={name: "x"}))
    assert caught.value.reason == "BadLabel"


@pytest.mark.parametrize(
    "changes",
    [
        {"os": "windows"},
        {"os": None},
        {"architecture": None},
        {"config": ["x"]},
        {"config": {"Labels": ["x"]}},
        {"config": {"Env": [2**60]}},
        {"rootfs": None},
        {"rootfs": {"diff_ids": []}},
        {"rootfs": {"diff_ids": ["sha256:" + "0" * 64] * 2}},
    ],
    ids=str,
)
def test_a_base_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as caught:
        made(base=base(**changes))
    assert caught.value.reason == "BadBase"


def test_the_scoring_files_stand_alone() -> None:
    files = {file.path: file for file in scoring_files("cxr-triage", 3, {"identity": "x", "model": "other"})}
    assert sorted(files) == ["app/metadata.json", "app/score.py"]
    contents = {}
    for path, file in files.items():
        with file.open() as stream:
            contents[path] = stream.read()
        assert len(contents[path]) == file.size
    assert contents["app/metadata.json"] == b'{"identity":"x","model":"cxr-triage","version":3}\n'
    assert b"edgetrain." not in contents["app/score.py"].replace(b"edgetrain-score", b"")
    with pytest.raises(ValueError, match="nan"):
        scoring_files("m", 1, {"x": float("nan")})
