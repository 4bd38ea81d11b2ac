"""A registry with `credential: {workspace: true}`: the workspace's sign-in, exchanged as ACR does it, before a real
registry."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator.server import RunningEmulator
from edgetrain.core.errors import Denied, Rejected, Unavailable
from edgetrain.core.kinds import Configuration
from edgetrain.reconcile.site import Site
from testbed.registry import Registry
from tests.providers.azureml.support import begin, by_secret, check, settings, sign_ins
from tests.providers.oci.samples import model_image
from tests.reconcile import builders

pytestmark = pytest.mark.needs("registry")


@pytest.fixture(scope="module")
def acr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """An emulator whose token exchange stands before a real registry."""
    with (
        Registry("open") as real,
        begin(tmp_path_factory.mktemp("acr") / "emulator", registry=real.url) as running,
    ):
        yield running
        check(running)


def site(
    emulator: RunningEmulator, folder: Path, topology: str, host: str, principal: str = "owner", **more: Any
) -> Site:
    """A site whose workspace is the emulator's, with one registry."""
    made = settings(emulator, folder, topology, auth=by_secret(emulator, principal))
    secret = folder / "sp"
    secret.write_text(emulator.principal(principal)["clientSecret"])
    secret.chmod(0o600)
    spec = {
        "workspace": dict(made.block),
        "clouds": dict(made.clouds),
        "sites": {"here": {"state": str(folder / "state")}},
        "registries": {"acr": {"type": "oci", "host": host, "credential": {"workspace": True}}},
        "secrets": {"sp": {"source": {"file": str(secret)}}},
        "proxy": {"https": made.outbound.proxy, "caBundle": made.outbound.ca_bundle},
        **more,
    }
    document = builders.document("edgetrain.yaml", "Configuration", "edgetrain", spec)
    (folder / "checkout").mkdir()
    return Site(Configuration.from_document(document), "here", folder / "checkout")


def host_of(emulator: RunningEmulator, topology: str) -> str:
    """The registry's name in a topology."""
    return "emuacr.azurecr.io" if topology == "A" else f"localhost:{emulator.port}"


def test_images_are_pushed_by_the_workspaces_sign_in(acr: RunningEmulator, tmp_path: Path, topology: str) -> None:
    acr.emulator.log.clear()
    registry = site(acr, tmp_path, topology, host_of(acr, topology)).registry("acr")
    name = f"tests/{secrets.token_hex(6)}"
    digest = registry.push(name, model_image(100_000))
    registry.tag(name, "production", digest)
    assert dict(registry.tags(name)) == {"production": digest}
    assert registry.has(name, digest)
    assert sign_ins(acr) >= 1
    exchanges = [one for one in acr.requests if one.get("path") == "/oauth2/exchange"]
    assert [one["status"] for one in exchanges] == [200]


def test_a_reader_may_not_push(acr: RunningEmulator, tmp_path: Path) -> None:
    registry = site(acr, tmp_path, "A", host_of(acr, "A"), "reader").registry("acr")
    with pytest.raises(Denied):
        registry.push(f"tests/{secrets.token_hex(6)}", model_image(1000))


def test_another_registry_never_sees_the_sign_in(acr: RunningEmulator, tmp_path: Path) -> None:
    """It asks for it the way ACR does; it is not of the workspace's cloud."""
    acr.emulator.log.clear()
    registry = site(acr, tmp_path, "A", f"localhost:{acr.port}").registry("acr")
    with pytest.raises(Rejected) as caught:
        registry.push("tests/no", model_image(1000))
    assert caught.value.reason == "RegistryElsewhere"
    assert not [one for one in acr.requests if one.get("path") == "/oauth2/exchange"]
    assert sign_ins(acr) == 0


def test_a_workspace_without_a_sign_in_gives_none(acr: RunningEmulator, tmp_path: Path) -> None:
    made = site(acr, tmp_path, "A", host_of(acr, "A"), workspace={"type": "mlflow"})
    with pytest.raises(Unavailable) as caught:
        made.registry("acr")
    assert caught.value.reason == "NoWorkspaceSignIn"
