"""`apply` releases to a real registry: on a base of another registry, with channels that move and go."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from edgetrain.providers.oci.provider import OciRegistry
from testbed.registry import Registry
from tests.apply.site import SmallSite

from .front import Front, Reply
from .reach import reach
from .samples import model_image

pytestmark = pytest.mark.needs("registry")


@pytest.fixture
def prefix() -> str:
    return f"release-{secrets.token_hex(8)}"


@pytest.fixture
def site(tmp_path: Path, registry_token: Registry, registry_open: Registry, prefix: str) -> SmallSite:
    """A site with two registries; the model's base is in the one that is not its own."""
    base = reach(registry_open).push("bases/onnx", model_image(100_000))
    site = SmallSite(tmp_path / "a site").make()
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text(registry_token.password)
    credential = {"username": registry_token.username, "password": {"secret": "registry"}}
    own = {"type": "oci", "host": registry_token.name, "caBundle": registry_token.ca_bundle}
    blocks = {
        "allowedBases": [f"{registry_open.name}/bases/onnx@{base}"],
        "registries": {
            "own": {**own, "repositoryPrefix": prefix, "credential": credential},
            "bases": {"type": "oci", "host": registry_open.name, "plainHttp": True},
        },
        "secrets": {"registry": {"source": {"file": str(password)}}},
    }
    configuration = (site.clone / "edgetrain.yaml").read_text()
    lines = "".join(f"  {name}: {json.dumps(block)}\n" for name, block in blocks.items())
    site.write("edgetrain.yaml", configuration + lines)
    image = f'{{repository: mean, registry: own, base: "{blocks["allowedBases"][0]}"}}'  # type: ignore[index]
    site.edit("models/mean/model.yaml", "{repository: mean}", image)
    site.push("Release to a registry")
    return site


def test_a_release_is_pushed_tagged_moved_and_removed(
    site: SmallSite, registry_token: Registry, registry_open: Registry, prefix: str
) -> None:
    registry: OciRegistry = reach(registry_token, prefix=prefix)
    site.apply()
    site.merge_proposal(1, production=1)
    released = site.apply()
    assert released.good, [(one.reason, one.message) for one in released.results]
    tags = registry.tags("mean")
    assert {"1", "production"} < set(tags)
    assert len(set(tags.values())) == 1
    digest = tags["1"]
    assert registry.has("mean", digest)
    manifest = json.loads(registry._client.manifest(f"{prefix}/mean", digest)[0])
    assert manifest["annotations"]["org.opencontainers.image.base.name"] == f"{registry_open.name}/bases/onnx"
    base = registry.base(f"mean@{digest}")
    assert len(base.layers) == 4  # two of the base, copied from the other registry
    assert not site.apply().results  # nothing is left to do
    site.sync()
    site.edit("models/mean/model.yaml", "production: 1", "")
    site.push("Take it out of production")
    assert site.apply().good
    assert set(registry.tags("mean")) == set(tags) - {"production"}
    assert registry.has("mean", digest)
    assert not site.apply().results


def test_a_registry_that_is_down_holds_up_the_release_only(
    site: SmallSite, registry_token: Registry, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
    with Front(registry_token, lambda one: Reply(503) if one.method in {"POST", "PUT"} else None) as front:
        own = f'"host": "{registry_token.name}"'
        site.edit("edgetrain.yaml", own, f'"host": "{front.host}", "plainHttp": true')
        site.push("Reach the registry through a front")
        site.apply()
        site.merge_proposal(1, production=1)
        failed = site.apply()
        assert not failed.good
        assert reach(registry_token, prefix=prefix).tags("mean") == {}
        assert not any(".release-" in path for path in site.records())
        front.rule = None
        assert site.apply().good
        assert {"1", "production"} < set(reach(registry_token, prefix=prefix).tags("mean"))
