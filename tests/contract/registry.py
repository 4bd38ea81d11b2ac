"""What every registry must do. A provider's test class inherits this and gives the fixture `registry`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO

import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import NotFound, ProviderError, Rejected
from edgetrain.core.ports import BaseImage, CheckStatus, Image, Layer, Registry
from edgetrain.image.assembly import About, assemble
from edgetrain.image.layer import LayerFile

REPOSITORY = "radiology/cxr-triage"
BAD_REPOSITORIES = ["", "..", "a/../b", "/a", "a/", "a//b", "A", "a b", "a:b", ".a", "a._b", "a" * 256, "é"]
BAD_TAGS = ["", ".a", "-a", "a/b", "a b", "a\n", "a" * 129, "../a", "é"]


class Interrupted(ProviderError):
    """What a stream raises that breaks in the middle."""


def image(version: int = 1, base: BaseImage | None = None) -> Image:
    """A small image, other for each version."""
    about = About(title="cxr-triage", version=str(version), revision="5" * 40, created="2026-10-01T12:00:00Z")
    scoring = [LayerFile.of_bytes("app/score.py", b"print('score')\n")]
    model = [LayerFile.of_bytes("model/model.onnx", b"weights of %d " % version * 5000)]
    return assemble(about=about, scoring=scoring, model=model, base=base)


def with_open(layer: Layer, opener: Callable[[], BinaryIO]) -> Layer:
    return replace(layer, open=opener)


class Breaking(io.RawIOBase):
    """The first half of some bytes, then a failure."""

    def __init__(self, data: bytes) -> None:
        self._half = io.BytesIO(data[: len(data) // 2])

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        count = self._half.readinto(buffer)
        if not count:
            raise Interrupted("the stream broke")
        return count


def everything(layer: Layer) -> bytes:
    with layer.open() as stream:
        return stream.read()


class RegistryContract:
    """The contract of `core.ports.Registry`."""

    def test_a_diagnosis_looks_at_each_repository_and_leaves_nothing(self, registry: Registry) -> None:
        checks = registry.diagnose([REPOSITORY, "other"])
        assert [check.name for check in checks] == ["registry", "registry-push", "registry-push"]
        assert {check.status for check in checks} == {CheckStatus.PASS}
        assert registry.tags(REPOSITORY) == {}

    def test_an_absent_repository_is_empty(self, registry: Registry) -> None:
        assert registry.tags(REPOSITORY) == {}
        assert not registry.has(REPOSITORY, digest_bytes(b"absent"))

    def test_a_pushed_image_is_there_whole(self, registry: Registry) -> None:
        made = image()
        digest = registry.push(REPOSITORY, made)
        assert digest == digest_bytes(made.manifest)
        assert registry.has(REPOSITORY, digest)
        assert not registry.has(REPOSITORY, digest_bytes(b"absent"))
        assert not registry.has("another", digest)
        assert registry.has(REPOSITORY, digest, lately=True)
        assert not registry.has("another", digest, lately=True)
        assert registry.tags(REPOSITORY) == {}

    def test_every_byte_of_an_image_can_be_read(self, registry: Registry) -> None:
        made = image()
        digest = registry.push(REPOSITORY, made)
        wanted = [("manifest", digest), ("config", digest_bytes(made.config))]
        wanted += [(f"layer {at} of 2", layer.digest) for at, layer in enumerate(made.layers, 1)]
        assert [(part.name, part.digest, part.fault) for part in registry.read(REPOSITORY, digest)] == [
            (name, one, "") for name, one in wanted
        ]
        [absent] = registry.read(REPOSITORY, digest_bytes(b"absent"))
        assert absent.name == "manifest"
        assert absent.fault

    def test_pushing_again_reads_no_layer(self, registry: Registry) -> None:
        def never() -> BinaryIO:
            raise AssertionError("a layer that is there was read again")

        made = image()
        first = registry.push(REPOSITORY, made)
        again = replace(made, layers=[with_open(layer, never) for layer in made.layers])
        assert registry.push(REPOSITORY, again) == first

    def test_an_image_comes_back_as_a_base(self, registry: Registry) -> None:
        made = image()
        digest = registry.push(REPOSITORY, made)
        base = registry.base(f"{REPOSITORY}@{digest}")
        assert base.digest == digest
        assert base.config == json.loads(made.config)
        assert base.layers == made.layers
        assert [everything(layer) for layer in base.layers] == [everything(layer) for layer in made.layers]
        on_top = registry.push("other", image(2, base))
        assert registry.has("other", on_top)
        assert len(registry.base(f"other@{on_top}").layers) == 4

    @pytest.mark.parametrize(
        "reference", [f"{REPOSITORY}@{digest_bytes(b'absent')}", f"absent@{digest_bytes(b'absent')}"]
    )
    def test_an_absent_base_is_told(self, registry: Registry, reference: str) -> None:
        registry.push(REPOSITORY, image())
        with pytest.raises(NotFound):
            registry.base(reference)

    @pytest.mark.parametrize("reference", ["cxr", "cxr:latest", "cxr@", "cxr@sha256:12", "cxr@sha256:../../../etc"])
    def test_a_base_without_a_digest_is_refused(self, registry: Registry, reference: str) -> None:
        with pytest.raises(Rejected):
            registry.base(reference)

    def test_tags_move_and_go(self, registry: Registry) -> None:
        first, second = (registry.push(REPOSITORY, image(n)) for n in (1, 2))
        registry.tag(REPOSITORY, "1", first)
        registry.tag(REPOSITORY, "production", first)
        assert registry.tags(REPOSITORY) == {"1": first, "production": first}
        for _ in range(2):
            registry.tag(REPOSITORY, "production", second)
            assert registry.tags(REPOSITORY) == {"1": first, "production": second}
        for _ in range(2):
            registry.tag(REPOSITORY, "production", None)
            registry.tag(REPOSITORY, "1", None)
            assert registry.tags(REPOSITORY) == {}
        assert registry.has(REPOSITORY, first)
        assert registry.has(REPOSITORY, second)
        assert registry.base(f"{REPOSITORY}@{second}").digest == second

    def test_repositories_are_apart(self, registry: Registry) -> None:
        digest = registry.push("cxr", image())
        registry.tag("cxr", "1", digest)
        assert registry.tags("cxr/more") == {}
        registry.push("cxr/more", image(2))
        assert registry.tags("cxr") == {"1": digest}
        assert registry.tags("cxr/more") == {}

    def test_a_tag_of_what_is_not_there_is_refused(self, registry: Registry) -> None:
        registry.push(REPOSITORY, image())
        with pytest.raises(NotFound):
            registry.tag(REPOSITORY, "1", digest_bytes(b"absent"))
        assert registry.tags(REPOSITORY) == {}

    @pytest.mark.parametrize("broken", [0, 1])
    def test_an_interrupted_push_shows_nothing_and_the_next_converges(
        self, registry: Registry, broken: int
    ) -> None:
        made = image()
        layers = list(made.layers)
        data = everything(layers[broken])
        layers[broken] = with_open(layers[broken], lambda: Breaking(data))
        with pytest.raises(Interrupted):
            registry.push(REPOSITORY, replace(made, layers=layers))
        digest = digest_bytes(made.manifest)
        assert not registry.has(REPOSITORY, digest)
        assert registry.tags(REPOSITORY) == {}
        with pytest.raises(NotFound):
            registry.base(f"{REPOSITORY}@{digest}")
        with pytest.raises(NotFound):
            registry.tag(REPOSITORY, "1", digest)
        assert registry.push(REPOSITORY, made) == digest
        assert registry.has(REPOSITORY, digest)

    @pytest.mark.parametrize(
        "change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"x" + data[1:]]
    )
    def test_a_layer_that_is_not_its_digest_is_refused(
        self, registry: Registry, change: Callable[[bytes], bytes]
    ) -> None:
        made = image()
        spoilt = change(everything(made.layers[1]))
        layers = [made.layers[0], with_open(made.layers[1], lambda: io.BytesIO(spoilt))]
        with pytest.raises(Rejected):
            registry.push(REPOSITORY, replace(made, layers=layers))
        assert not registry.has(REPOSITORY, digest_bytes(made.manifest))

    def test_a_manifest_that_names_other_layers_is_refused(self, registry: Registry) -> None:
        one, two = image(1), image(2)
        for wrong in (
            replace(one, layers=two.layers),
            replace(one, config=two.config),
            replace(one, layers=one.layers[:1]),
            replace(one, manifest=b"[]"),
        ):
            with pytest.raises(Rejected):
                registry.push(REPOSITORY, wrong)
        assert not registry.has(REPOSITORY, digest_bytes(one.manifest))

    @pytest.mark.parametrize("repository", BAD_REPOSITORIES)
    def test_a_bad_repository_is_refused(self, registry: Registry, repository: str) -> None:
        for use in (
            lambda: registry.push(repository, image()),
            lambda: registry.tags(repository),
            lambda: registry.tag(repository, "1", None),
            lambda: registry.has(repository, digest_bytes(b"")),
            lambda: registry.base(f"{repository}@{digest_bytes(b'')}"),
        ):
            with pytest.raises(Rejected):
                use()

    @pytest.mark.parametrize("tag", BAD_TAGS)
    def test_a_bad_tag_is_refused(self, registry: Registry, tag: str) -> None:
        digest = registry.push(REPOSITORY, image())
        with pytest.raises(Rejected):
            registry.tag(REPOSITORY, tag, digest)
        assert registry.tags(REPOSITORY) == {}

    def test_it_says_where(self, registry: Registry) -> None:
        assert REPOSITORY in registry.where(REPOSITORY)
        assert "\n" not in registry.where(REPOSITORY)
