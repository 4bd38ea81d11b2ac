"""The main job with the artifacts in a blob container: the same end, and the key in nothing that is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.core.record import Outcome
from edgetrain.providers.azure_blob.account import account_of
from edgetrain.providers.azure_blob.artifacts import AzureBlobArtifacts
from testbed.azurite import Azurite
from tests.apply.site import SmallSite
from tests.apply.test_main_job import outcomes
from tests.providers.azure_blob.stores import declared, new_container

pytestmark = pytest.mark.needs("azurite")


def test_from_merge_to_release_with_artifacts_in_a_container(azurite: Azurite, tmp_path: Path) -> None:
    site = SmallSite(tmp_path / "a site").make()
    container = new_container(azurite)
    key = tmp_path / "key"
    key.write_text(azurite.key + "\n")
    key.chmod(0o600)
    site.edit(
        "edgetrain.yaml",
        "  allowUnsandboxed: true\n",
        f"""\
  allowUnsandboxed: true
  artifacts:
    type: azure-blob
    endpoint: {azurite.endpoint}
    container: {container}
    prefix: here
    credential: {{accountKey: {{secret: artifacts-key}}}}
  secrets:
    artifacts-key: {{source: {{file: {json.dumps(str(key))}}}}}
""",
    )
    site.push("Artifacts in a container")
    assert outcomes(site.apply()) == [Outcome.CANDIDATE]
    site.merge_proposal(1, production=1)
    assert site.apply().good
    assert not site.apply().results

    kept = AzureBlobArtifacts(account=account_of(declared(azurite, container, tmp_path, prefix="here")))
    model = json.dumps({"mean": 2.0, "shift": 0.5}).encode()
    with kept.open(digest_bytes(model)) as stream:
        assert stream.read() == model
    assert not (site.state / "artifacts").exists()
    for file in sorted(tmp_path.rglob("*")):
        if file.is_file() and file != key:
            assert azurite.key.encode() not in file.read_bytes(), file
