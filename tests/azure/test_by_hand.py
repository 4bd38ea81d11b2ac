"""A repository moves from MLflow to Azure ML; what somebody does there by hand is seen, mended or left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator.server import RunningEmulator
from edgetrain.core.ports import CheckStatus
from edgetrain.reconcile.audit import audit
from edgetrain.reconcile.doctor import examine
from edgetrain.reconcile.drift import drift
from edgetrain.reconcile.planning import make_plan
from edgetrain.reconcile.report import Status
from edgetrain.reconcile.verify import verify
from edgetrain.render.audit import audit_text
from tests.apply.site import SmallSite
from tests.emulator import support
from tests.emulator.fixtures import make_emulator  # noqa: F401

# What is asked when nothing changed: to sign in, to find the services, and one list of each sort.
MOST_REQUESTS = 20


def block(emulator: RunningEmulator, folder: Path, cloud: str = "") -> str:
    """What `edgetrain.yaml` says of the workspace; JSON is YAML. `cloud` is declared there: by topology B."""
    options, owner = emulator.emulator.options, emulator.principal()
    secret = folder / "client-secret"
    secret.write_text(owner["clientSecret"])
    secret.chmod(0o600)
    workspace = {
        "type": "azureml",
        "subscription": options.subscription,
        "resourceGroup": options.group,
        "name": options.workspace,
        "auth": {
            "type": "service-principal",
            "tenant": options.tenant,
            "clientId": owner["clientId"],
            "clientSecret": {"secret": "sp"},
        },
    }
    proxy = {"https": emulator.proxy_url, "caBundle": str(emulator.certificates.bundle)}
    secrets = {"sp": {"source": {"file": str(secret)}}}
    told = {"workspace": workspace, "proxy": proxy, "secrets": secrets}
    if cloud:
        del proxy["https"]
        workspace["cloud"] = cloud
        told["clouds"] = {cloud: {"resourceManager": emulator.url, "registrySuffix": "localhost"}}
    return "".join(f"  {key}: {json.dumps(value)}\n" for key, value in told.items())


def ids(site: SmallSite, refresh: bool = True) -> list[str]:
    site.sync()
    return [change.id for change in make_plan(site.clone, refresh=refresh).changes]


def models(emulator: RunningEmulator) -> list[Any]:
    from azureml.core import Model

    return sorted(Model.list(support.connect(emulator)), key=lambda model: int(model.version))


@pytest.mark.xdist_group("azure")
def test_a_released_version_moves_and_is_kept_as_recorded(
    make_emulator: Callable[..., RunningEmulator],  # noqa: F811
    surroundings: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = SmallSite(tmp_path / "a site").make()
    site.release()
    emulator = make_emulator()
    text = (site.clone / "edgetrain.yaml").read_text()
    site.write("edgetrain.yaml", text.replace("spec:\n", "spec:\n" + block(emulator, tmp_path), 1))
    [change] = make_plan(site.clone).changes
    assert (change.id, change.reason) == ("workspace/mean@1", "WorkspaceChanged")
    site.push("Move to Azure ML")
    assert [(r.reason, r.status) for r in site.apply().results] == [("WorkspaceChanged", Status.APPLIED)]
    [model] = models(emulator)
    assert (model.tags["edgetrain.version"], model.tags["edgetrain.channel.production"]) == ("1", "true")
    digests = {f"edgetrain.{name}" for name in ("digest", "record", "identity", "code", "input.table")}
    assert digests <= {name for name, value in model.properties.items() if value.startswith("sha256:")}
    assert model.tags["edgetrain.image"].startswith("sha256:")
    assert ids(site, refresh=False) == []
    before = len(emulator.requests)
    assert ids(site) == []
    assert len(emulator.requests) - before <= MOST_REQUESTS
    assert verify(site.clone, None, deep=True).holds
    assert not drift(site.clone).any
    said = audit_text(audit(site.clone, "mean@1"))
    assert f"azureml {emulator.emulator.options.group}/{emulator.emulator.options.workspace}" in said
    looked = {part.kind: part for part in examine(site.clone, None, None, [].append, live=True).parts}
    for part in (looked["workspace"], looked["rehearsal"]):
        assert part.checks and all(check.status is not CheckStatus.FAIL for check in part.checks), part
    assert not drift(site.clone).any, "doctor --live leaves nothing behind"

    # Somebody changes a tag in the portal, and registers a model of the same name.
    model.update(tags={**model.tags, "edgetrain.record": "sha256:else"})
    (tmp_path / "theirs.txt").write_text("theirs")
    monkeypatch.chdir(tmp_path)
    from azureml.core import Model

    theirs = Model.register(support.connect(emulator), "theirs.txt", "mean")
    found = drift(site.clone)
    assert {c.id: c.reason for c in found.drifted} == {"workspace/mean@1": "WorkspaceDrifted"}
    assert [what for _, what in found.foreign] == [f"registered by others, left alone: {theirs.version}"]
    assert not verify(site.clone, None, deep=True).holds
    assert [r.reason for r in site.apply().results] == ["Unreviewed"]
    site.sync()
    assert [r.reason for r in site.apply(reviewed=make_plan(site.clone, refresh=True)).results] == [
        "WorkspaceDrifted"
    ]
    assert verify(site.clone, None, deep=True).holds

    # Somebody deletes ours: what is gone is made again, under the number that Azure ML gives it.
    models(emulator)[0].delete()
    assert {c.id: c.reason for c in drift(site.clone).drifted} == {
        "workspace/mean@1": "Missing",
        "channel/mean/production": "ChannelDrifted",
    }
    again = site.apply()
    assert {r.status for r in again.results} == {Status.APPLIED}
    assert ids(site) == []
    mine = [one for one in models(emulator) if one.tags.get("edgetrain.version") == "1"]
    assert len(mine) == 1
    assert mine[0].tags["edgetrain.channel.production"] == "true"
    assert [one.version for one in models(emulator) if one.version == theirs.version] == [theirs.version]
    assert verify(site.clone, None, deep=True).holds
