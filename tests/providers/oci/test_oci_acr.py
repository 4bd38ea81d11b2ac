"""The provider at a registry that asks for ACR's token exchange: the Azure ML emulator before a real registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from azureml_emulator.options import Options
from azureml_emulator.server import RunningEmulator, start
from azureml_emulator.tokens import Tokens
from edgetrain.core.errors import Denied
from edgetrain.core.secret import Secret
from edgetrain.providers.oci.auth import Credential
from edgetrain.providers.oci.provider import OciRegistry
from testbed.registry import Registry

from .reach import no_pause
from .samples import model_image

pytestmark = pytest.mark.needs("registry")


@pytest.fixture
def acr(tmp_path: Path, registry_open: Registry) -> Iterator[RunningEmulator]:
    with start(Options(folder=tmp_path / "emulator", registry=registry_open.url)) as running:
        yield running


def at(acr: RunningEmulator, principal: str, audience: str = "acr") -> OciRegistry:
    """The provider, signed in with a token of the directory."""
    token = Secret(Tokens(acr.emulator).issue(principal, audience))
    return OciRegistry(
        f"localhost:{acr.port}",
        plain_http=False,
        ca_bundle=str(acr.certificates.authority),
        sleep=no_pause,
        credential=Credential(token=lambda: token),
    )


def test_push_tag_and_untag_by_exchange(acr: RunningEmulator, repository: str) -> None:
    registry = at(acr, "owner")
    image = model_image(3_000_000)
    digest = registry.push(repository, image)
    for tag in ("1", "production"):
        registry.tag(repository, tag, digest)
    assert registry.tags(repository) == {"1": digest, "production": digest}
    registry.tag(repository, "production", None)
    assert registry.tags(repository) == {"1": digest}
    assert len(registry.base(f"{repository}@{digest}").layers) == 2
    # Layers that another repository has are taken over from it, by a token for both.
    assert at(acr, "owner").push(f"{repository}-copy", image) == digest
    exchanges = [item for item in acr.requests if item["path"] == "/oauth2/exchange"]
    assert {item["status"] for item in exchanges} == {200}
    assert acr.emulator.log.unknown_routes == []
    assert acr.emulator.log.failures == []


def test_reader_pulls_and_is_denied_a_push(acr: RunningEmulator, repository: str) -> None:
    digest = at(acr, "owner").push(repository, model_image(10_000))
    reader = at(acr, "reader", "arm")
    assert reader.has(repository, digest)
    with pytest.raises(Denied):
        reader.push(repository, model_image(10_000, seed=2))
    with pytest.raises(Denied):
        at(acr, "owner", "aml").has(repository, digest)
