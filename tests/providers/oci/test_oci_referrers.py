"""Artifacts that refer to an image: by the fallback tag at Docker distribution, by the API where there is one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgetrain.core.digest import canonical, digest_bytes
from edgetrain.core.errors import NotFound, Rejected
from edgetrain.providers.oci.provider import OciRegistry
from edgetrain.providers.oci.referrers import Part, fallback_tag
from testbed.registry import Registry

from .front import Conforming, Front, Reply, Request
from .reach import reach
from .samples import model_image

pytestmark = pytest.mark.needs("registry")

SIGNATURE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SBOM = "application/vnd.cyclonedx+json"


@pytest.fixture(params=["fallback tag", "api"])
def front(request: pytest.FixtureRequest, registry_open: Registry) -> Iterator[Front]:
    with Front(registry_open) if request.param == "fallback tag" else Conforming(registry_open) as made:
        yield made


def test_an_attached_artifact_is_listed(front: Front, repository: str) -> None:
    registry = reach(front.upstream, front.host)
    image = registry.push(repository, model_image(1000))
    registry.tag(repository, "1", image)
    assert registry.referrers(repository, image) == []
    parts = [Part(SIGNATURE, b'{"signature": "..."}', {"note": "a"})]
    first = registry.attach(repository, image, SIGNATURE, parts, {"org.example.by": "us"})
    second = registry.attach(repository, image, SBOM, [Part(SBOM, b"{}")])
    found = {one.manifest.digest: one for one in registry.referrers(repository, image)}
    assert set(found) == {first, second}
    assert found[first].artifact_type == SIGNATURE
    assert found[first].annotations == {"org.example.by": "us"}
    assert [one.manifest.digest for one in registry.referrers(repository, image, SBOM)] == [second]
    manifest = json.loads(registry._client.manifest(repository, first)[0])
    assert manifest["subject"]["digest"] == image
    assert manifest["artifactType"] == SIGNATURE
    assert manifest["layers"][0]["annotations"] == {"note": "a"}
    assert registry._client.blob_size(repository, manifest["layers"][0]["digest"]) == 20
    # What lists them is no tag of the model's.
    assert registry.tags(repository) == {"1": image}
    fallback = fallback_tag(image) in registry._client.tags(repository)
    assert fallback is not isinstance(front, Conforming)


def test_attaching_again_sends_nothing(front: Front, repository: str) -> None:
    registry = reach(front.upstream, front.host)
    image = registry.push(repository, model_image(1000))
    parts = [Part(SBOM, b"{}")]
    first = registry.attach(repository, image, SBOM, parts)
    before = len(front.of("PUT"))
    assert registry.attach(repository, image, SBOM, parts) == first
    assert len(front.of("PUT")) == before
    assert len(registry.referrers(repository, image)) == 1


def test_nothing_is_attached_to_what_is_not_there(front: Front, repository: str) -> None:
    with pytest.raises(NotFound):
        reach(front.upstream, front.host).attach(repository, digest_bytes(b"absent"), SBOM, [])


def test_another_writer_of_the_fallback_tag_loses_nothing(registry_open: Registry, repository: str) -> None:
    """Another one's index comes over ours, between our look and the end: both are there at last."""
    other = reach(registry_open)
    image = other.push(repository, model_image(1000))
    interfered = []

    def rule(one: Request) -> None:
        if one.method == "PUT" and fallback_tag(image) in one.path and not interfered:
            interfered.append(other.attach(repository, image, SBOM, [Part(SBOM, b'{"other": 1}')]))

    with Front(registry_open, rule) as front:
        mine = reach(registry_open, front.host).attach(repository, image, SIGNATURE, [Part(SIGNATURE, b"{}")])
    # Ours was written from an older look; whoever looks again finds its own gone, and writes it again.
    again = other.attach(repository, image, SBOM, [Part(SBOM, b'{"other": 1}')])
    assert again == interfered[0]
    assert {one.manifest.digest for one in other.referrers(repository, image)} == {mine, again}


def test_a_blob_that_another_writer_is_just_linking_is_waited_for(registry_open: Registry, repository: str) -> None:
    """Docker distribution says DIGEST_INVALID of a manifest while the link of one of its blobs is half written."""
    half = [3]

    def rule(one: Request) -> Reply | None:
        if one.method == "PUT" and "/manifests/sha256:" in one.path and half[0]:
            half[0] -= 1
            return Reply(400, body=b'{"errors":[{"code":"DIGEST_INVALID"}]}')
        return None

    image = reach(registry_open).push(repository, model_image(1000))
    with Front(registry_open, rule) as front:
        registry = reach(registry_open, front.host)
        attached = registry.attach(repository, image, SBOM, [Part(SBOM, b"{}")])
        assert [one.manifest.digest for one in registry.referrers(repository, image)] == [attached]
    assert half == [0]


def test_several_writers_at_once_converge(registry_open: Registry, repository: str) -> None:
    registry = reach(registry_open)
    image = registry.push(repository, model_image(1000))

    def attach(number: int) -> str:
        made: OciRegistry = reach(registry_open)
        return made.attach(repository, image, SBOM, [Part(SBOM, b"%d" % number)])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(attach, range(3)))
    wanted = {attach(number) for number in range(3)}
    assert {one.manifest.digest for one in registry.referrers(repository, image)} == wanted


@pytest.mark.parametrize(
    "index",
    [
        {"manifests": {}},
        {"manifests": [{"digest": "sha256:../x"}]},
        {"manifests": [{"mediaType": "x", "digest": digest_bytes(b""), "size": 0, "artifactType": 7}]},
    ],
)
def test_a_hostile_index_is_refused(registry_open: Registry, index: object) -> None:
    with (
        Front(registry_open, lambda _: Reply(200, body=canonical(index))) as front,
        pytest.raises(Rejected),
    ):
        reach(registry_open, front.host).referrers("cxr", digest_bytes(b"x"))


@pytest.mark.needs("skopeo")
def test_skopeo_reads_the_fallback_tags_artifacts(registry_open: Registry, repository: str) -> None:
    registry = reach(registry_open)
    image = registry.push(repository, model_image(1000))
    artifact = registry.attach(repository, image, SBOM, [Part(SBOM, b'{"bomFormat": "CycloneDX"}')])
    place = f"docker://{registry_open.name}/{repository}"

    def raw(reference: str) -> bytes:
        command = ["skopeo", "inspect", "--raw", *registry_open.skopeo(""), place + reference]
        return subprocess.run(command, capture_output=True, check=True).stdout

    index = json.loads(raw(f":{fallback_tag(image)}"))
    assert [one["digest"] for one in index["manifests"]] == [artifact]
    assert digest_bytes(raw(f"@{artifact}")) == artifact
