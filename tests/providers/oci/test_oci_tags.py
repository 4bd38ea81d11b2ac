"""A tag is taken away without its image, whatever the registry makes of a DELETE."""

from __future__ import annotations

import subprocess

import pytest

from edgetrain.providers.oci.provider import REMOVED
from testbed.registry import Registry

from .front import Front, Reply, Request
from .reach import reach
from .samples import model_image

pytestmark = pytest.mark.needs("registry")


@pytest.mark.parametrize("status", [400, 401, 403, 405, 501])
def test_where_nothing_can_be_deleted_the_tag_leads_nowhere(
    registry_open: Registry, repository: str, status: int
) -> None:
    with Front(registry_open, lambda one: Reply(status) if one.method == "DELETE" else None) as front:
        registry = reach(registry_open, front.host)
        digest = registry.push(repository, model_image(1000))
        for tag in ("1", "production"):
            registry.tag(repository, tag, digest)
        for _ in range(2):
            registry.tag(repository, "production", None)
            assert registry.tags(repository) == {"1": digest}
        assert registry.has(repository, digest)
        left, _ = registry._client.manifest(repository, "production")
        assert REMOVED.encode() in left
        registry.tag(repository, "production", digest)
        assert registry.tags(repository) == {"1": digest, "production": digest}


@pytest.mark.needs("skopeo")
def test_nobody_pulls_the_old_image_by_a_tag_that_was_taken_away(registry_open: Registry, repository: str) -> None:
    with Front(registry_open, lambda one: Reply(405) if one.method == "DELETE" else None) as front:
        registry = reach(registry_open, front.host)
        registry.tag(repository, "production", registry.push(repository, model_image(1000)))
        registry.tag(repository, "production", None)
        command = ["skopeo", "inspect", *registry_open.skopeo("")]
        place = f"docker://{registry_open.name}/{repository}:production"
        done = subprocess.run([*command, place], capture_output=True, text=True, check=False)
        assert done.returncode != 0


def test_a_registry_that_deletes_the_image_with_its_tag_deletes_nothing_of_ours(
    registry_open: Registry, repository: str
) -> None:
    plain = reach(registry_open)

    def with_its_manifest(one: Request) -> Reply | None:
        name = one.path.rpartition("/")[2]
        if one.method != "DELETE" or name.startswith("sha256:"):
            return None
        digest = plain._client.digest(repository, name)
        assert digest is not None
        assert plain._client.delete_manifest(repository, digest)
        return Reply(202)

    with Front(registry_open, with_its_manifest) as front:
        registry = reach(registry_open, front.host)
        digest = registry.push(repository, model_image(1000))
        for tag in ("1", "production"):
            registry.tag(repository, tag, digest)
        registry.tag(repository, "production", None)
        assert registry.tags(repository) == {"1": digest}
        assert registry.has(repository, digest)


def test_moving_a_tag_moves_no_blob(registry_open: Registry, repository: str) -> None:
    with Front(registry_open) as front:
        registry = reach(registry_open, front.host)
        first, second = (registry.push(repository, model_image(50_000, seed)) for seed in (1, 2))
        registry.tag(repository, "production", first)
        front.requests.clear()
        registry = reach(registry_open, front.host)  # another process, which did not push it
        registry.tag(repository, "production", second)
        assert [one.method for one in front.requests] == ["HEAD", "GET", "PUT"]
        assert not [one for one in front.requests if "/blobs/" in one.path]
        front.requests.clear()
        registry.tag(repository, "production", second)
        assert [one.method for one in front.requests] == ["HEAD"]
