"""The registry asks for what its kind of sign-in asks for, and keeps images byte by byte."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import pytest
import urllib3

from testbed.registry import Registry
from testbed.tokens import Account

pytestmark = [pytest.mark.needs("registry"), pytest.mark.needs("skopeo")]


def layout(folder: Path) -> Path:
    """An image layout with one image without layers."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(value: object) -> dict[str, object]:
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    rootfs = {"type": "layers", "diff_ids": []}
    config = put({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs})
    kind = "application/vnd.oci.image"
    config = {"mediaType": f"{kind}.config.v1+json", **config}
    manifest = put({"schemaVersion": 2, "mediaType": f"{kind}.manifest.v1+json", "config": config, "layers": []})
    entry = {"mediaType": f"{kind}.manifest.v1+json", **manifest}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def push(registry: Registry, folder: Path, repository: str) -> subprocess.CompletedProcess[str]:
    command = ["skopeo", "copy", "--quiet", "--insecure-policy", "--preserve-digests", *registry.skopeo("dest")]
    command += [f"oci:{layout(folder)}", f"docker://{registry.name}/{repository}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", ["open", "basic", "token"])
def test_takes_an_image_from_who_may_push(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    registry: Registry = request.getfixturevalue(f"registry_{kind}")
    done = push(registry, tmp_path / "layout", "testbed/image:1")
    assert done.returncode == 0, done.stderr
    plain = urllib3.PoolManager(ca_certs=registry.ca_bundle or None)
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    answer = plain.request("GET", f"{registry.url}/v2/testbed/image/manifests/1", headers=accept)
    assert answer.status == (200 if kind == "open" else 401)


def test_tokens_grant_what_the_account_may_and_no_more(tmp_path: Path) -> None:
    accounts = {"reader": Account("reader-password", {"public/*": ("pull",)})}
    with Registry("token", accounts=accounts) as registry:
        registry.username, registry.password = "reader", "reader-password"
        done = push(registry, tmp_path / "layout", "public/image:1")
        assert done.returncode != 0
        assert "denied" in done.stderr or "unauthorized" in done.stderr
        registry.password = "wrong"
        assert push(registry, tmp_path / "other", "public/image:1").returncode != 0


def test_token_server_speaks_oauth2_and_the_exchange_of_acr(registry_token: Registry) -> None:
    tokens = registry_token.tokens
    assert tokens is not None
    tokens.entra["entra-token"] = registry_token.username
    http = urllib3.PoolManager(ca_certs=registry_token.ca_bundle)

    def post(path: str, **form: str) -> tuple[int, dict[str, str]]:
        body = urlencode({"service": tokens.service, **form})
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = http.request("POST", tokens.url + path, body=body, headers=kind)
        return answer.status, answer.json()

    status, refresh = post("/oauth2/exchange", grant_type="access_token", access_token="entra-token")
    assert status == 200
    scope = "repository:testbed/exchange:pull,push"
    grant = {"grant_type": "refresh_token", "refresh_token": refresh["refresh_token"], "scope": scope}
    status, access = post("/oauth2/token", **grant)
    assert status == 200
    bearer = {"Authorization": f"Bearer {access['access_token']}"}
    begun = http.request("POST", f"{registry_token.url}/v2/testbed/exchange/blobs/uploads/", headers=bearer)
    assert begun.status == 202
    elsewhere = http.request("POST", f"{registry_token.url}/v2/testbed/other/blobs/uploads/", headers=bearer)
    assert elsewhere.status == 401
    tokens.revoke()
    assert post("/oauth2/token", **grant)[0] == 401
    assert post("/oauth2/exchange", grant_type="access_token", access_token="made-up")[0] == 401
