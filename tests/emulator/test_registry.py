"""The registry: ACR's token exchange before a real registry, by plain requests and by skopeo."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from azureml_emulator import registry_tokens
from azureml_emulator.server import RunningEmulator
from azureml_emulator.tokens import Tokens
from testbed.registry import Registry
from tests.emulator import support
from tests.emulator.images import MANIFEST, digest_of, push_image

pytestmark = [pytest.mark.long(0.3), pytest.mark.needs("registry")]
PATIENCE = 120
ACR = "https://emuacr.azurecr.io"


@pytest.fixture(scope="module")
def real() -> Iterator[Registry]:
    with Registry("open") as part:
        yield part


@pytest.fixture
def emulator(make_emulator: Callable[..., RunningEmulator], real: Registry) -> RunningEmulator:
    return make_emulator(registry=real.url)


@dataclass
class Client:
    """Signs in as ACR's own clients do: a token of the directory, a refresh token, an access token per scope."""

    emulator: RunningEmulator
    url: str = ""
    principal: str = "owner"
    audience: str = "acr"
    tokens: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.url = self.url or self.emulator.url
        self.session = requests.Session()
        self.session.verify = str(self.emulator.certificates.bundle)

    @property
    def service(self) -> str:
        return self.url.removeprefix("https://")

    def exchange(self, token: str = "") -> requests.Response:
        token = token or Tokens(self.emulator.emulator).issue(self.principal, self.audience)
        form = {"grant_type": "access_token", "service": self.service, "access_token": token}
        return self.session.post(f"{self.url}/oauth2/exchange", data=form, timeout=PATIENCE)

    def access(self, scope: str) -> str:
        form = {
            "grant_type": "refresh_token",
            "service": self.service,
            "scope": scope,
            "refresh_token": self.exchange().json()["refresh_token"],
        }
        answer = self.session.post(f"{self.url}/oauth2/token", data=form, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    def __call__(self, method: str, url: str, **more: Any) -> requests.Response:
        """Ask; on a challenge sign in for what it names, and ask once more."""
        more.setdefault("timeout", PATIENCE)
        headers = {"Accept": f"{MANIFEST}, */*", **more.pop("headers", {})}
        key = f"{method} {url.partition('/blobs/')[0].partition('/manifests/')[0]}"
        if key in self.tokens:
            headers["Authorization"] = f"Bearer {self.tokens[key]}"
        answer = self.session.request(method, url, headers=headers, **more)
        if answer.status_code == 401 and "insufficient" not in answer.headers["WWW-Authenticate"]:
            challenge = requests.utils.parse_dict_header(answer.headers["WWW-Authenticate"].removeprefix("Bearer "))
            assert challenge["realm"] == f"{self.url}/oauth2/token"
            assert challenge["service"] == self.service
            self.tokens[key] = self.access(challenge.get("scope", ""))
            headers["Authorization"] = f"Bearer {self.tokens[key]}"
            answer = self.session.request(method, url, headers=headers, **more)
        return answer


@pytest.mark.parametrize("url", ["", ACR])
@pytest.mark.parametrize("audience", ["acr", "arm"])
def test_push_pull_and_retag(emulator: RunningEmulator, url: str, audience: str) -> None:
    client = Client(emulator, url, audience=audience)
    name = f"team/{audience}-{'a' if url else 'b'}"
    digest = push_image(client.url, name, "1", call=client)
    head = client("HEAD", f"{client.url}/v2/{name}/manifests/1", headers={"Accept": MANIFEST})
    assert (head.status_code, head.headers["Docker-Content-Digest"]) == (200, digest)
    body = client("GET", f"{client.url}/v2/{name}/manifests/{digest}", headers={"Accept": MANIFEST})
    assert digest_of(body.content) == digest
    again = client(
        "PUT", f"{client.url}/v2/{name}/manifests/prod", data=body.content, headers={"Content-Type": MANIFEST}
    )
    assert (again.status_code, again.headers["Docker-Content-Digest"]) == (201, digest)
    assert again.headers["Location"].startswith(f"{client.url}/v2/{name}/manifests/")
    said = client("GET", f"{client.url}/acr/v1/{name}/_tags/prod").json()
    assert (said["registry"], said["imageName"]) == (client.service, name)
    assert (said["tag"]["name"], said["tag"]["digest"]) == ("prod", digest)
    layer = json.loads(body.content)["layers"][0]["digest"]
    assert client("GET", f"{client.url}/v2/{name}/blobs/{layer}").content == b"layer"
    part = client("GET", f"{client.url}/v2/{name}/blobs/{layer}", headers={"Range": "bytes=1-2"})
    assert (part.status_code, part.content) == (206, b"ay")


def test_reader_may_only_pull(emulator: RunningEmulator) -> None:
    owner, reader = Client(emulator), Client(emulator, principal="reader")
    digest = push_image(owner.url, "read/only", "1", call=owner)
    assert reader("GET", f"{reader.url}/v2/read/only/manifests/{digest}").status_code == 200
    assert reader("GET", f"{reader.url}/v2/read/only/tags/list").json()["tags"] == ["1"]
    assert reader("GET", f"{reader.url}/acr/v1/read/only/_tags/1").status_code == 200
    for method, path in (
        ("POST", "/v2/read/only/blobs/uploads/"),
        ("PUT", "/v2/read/only/manifests/2"),
        ("DELETE", f"/v2/read/only/manifests/{digest}"),
    ):
        answer = reader(method, reader.url + path, data=b"")
        assert answer.status_code == 401
        assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
        assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
    assert owner("DELETE", f"{owner.url}/v2/read/only/manifests/{digest}").status_code == 202
    assert owner("GET", f"{owner.url}/v2/read/only/manifests/{digest}").status_code == 404


def test_token_is_for_its_scope(emulator: RunningEmulator) -> None:
    client = Client(emulator)
    push_image(client.url, "scoped/one", "1", call=client)
    push_image(client.url, "scoped/two", "1", call=client)
    bearer = {"Accept": MANIFEST, "Authorization": f"Bearer {client.access('repository:scoped/one:pull')}"}
    verify = client.session.verify

    def status(method: str, path: str) -> int:
        url = client.url + path
        return requests.request(method, url, headers=bearer, verify=verify, timeout=PATIENCE).status_code

    assert status("GET", "/v2/") == 200
    assert status("GET", "/v2/scoped/one/manifests/1") == 200
    assert status("GET", "/v2/scoped/two/manifests/1") == 401
    assert status("POST", "/v2/scoped/one/blobs/uploads/") == 401
    assert status("GET", "/v2/_catalog") == 401
    assert status("GET", "/acr/v1/_catalog") == 401
    assert status("GET", "/acr/v1/scoped/two/_tags") == 401
    bearer["Authorization"] = f"Bearer {client.access('registry:catalog:*')}"
    assert status("GET", "/v2/_catalog") == 200
    # Taking a blob over from elsewhere is reading it there.
    push = "repository:scoped/two:pull,push"
    blob = digest_of(b"layer")
    bearer["Authorization"] = f"Bearer {client.access(push)}"
    mount = f"/v2/scoped/two/blobs/uploads/?mount={blob}&from=scoped/one"
    assert status("POST", mount) == 401
    assert status("POST", mount.replace("from=", "fro%6d=").replace("scoped/one", "scoped%2Fone")) == 401
    bearer["Authorization"] = f"Bearer {client.access(push + ' repository:scoped/one:pull')}"
    assert status("POST", mount) == 201


def test_what_is_no_token(emulator: RunningEmulator) -> None:
    client = Client(emulator)
    tokens = Tokens(emulator.emulator)
    assert client.exchange(tokens.issue("owner", "aml")).status_code == 401
    assert client.exchange(tokens.run("r", "e")[0]).status_code == 401
    assert client.exchange(tokens.issue("owner", "acr", life=-1)).status_code == 401
    assert client.exchange("nonsense").status_code == 401
    refresh = client.exchange().json()["refresh_token"]

    def token(**more: str) -> requests.Response:
        form = {"grant_type": "refresh_token", "service": client.service, "refresh_token": refresh, **more}
        return client.session.post(f"{client.url}/oauth2/token", data=form, timeout=PATIENCE)

    assert token().status_code == 200
    assert token(service="other.azurecr.io").status_code == 400
    assert token(grant_type="magic").status_code == 400
    assert token(scope="repository:UPPER:pull").status_code == 400
    assert token(refresh_token=client.access("repository:x:pull")).status_code == 401
    assert token(refresh_token=tokens.issue("owner", "acr")).status_code == 401
    for header in ("Bearer nonsense", f"Bearer {refresh}", f"Bearer {tokens.issue('owner', 'acr')}", "Basic x"):
        answer = client.session.get(f"{client.url}/v2/", headers={"Authorization": header}, timeout=PATIENCE)
        assert answer.status_code == 401
    # The registry's tokens open nothing else.
    path = f"/modelmanagement/v1.0{emulator.emulator.workspace_path}/models"
    assert support.ask(emulator, "GET", path, token=client.access("repository:x:pull"))[0] == 401


def test_docker_signs_in_by_password(emulator: RunningEmulator) -> None:
    client = Client(emulator)
    refresh = client.exchange().json()["refresh_token"]
    scopes = ["repository:pass/word:pull,push", "repository:pass/port:pull"]
    query = {"service": client.service, "scope": scopes}
    for user, password, expected in (
        (registry_tokens.NOBODY, refresh, 200),
        (registry_tokens.NOBODY, "nonsense", 401),
        ("emuacr", Tokens(emulator.emulator).sign({"aud": registry_tokens.ADMIN}), 200),
        ("emuacr", refresh, 401),
        ("somebody", refresh, 401),
    ):
        answer = client.session.get(
            f"{client.url}/oauth2/token", params=query, auth=(user, password), timeout=PATIENCE
        )
        assert answer.status_code == expected, user
        if expected == 200:
            granted = Tokens(emulator.emulator).claims(answer.json()["access_token"])["access"]
            assert [item["name"] for item in granted] == ["pass/word", "pass/port"]
    assert client.session.get(f"{client.url}/oauth2/token", params=query, timeout=PATIENCE).status_code == 401


@pytest.mark.needs("skopeo")
def test_skopeo_copies_in_and_out(emulator: RunningEmulator, real: Registry, tmp_path: Path) -> None:
    digest = push_image(real.url, "skopeo/source", "1")
    refresh = Client(emulator).exchange().json()["refresh_token"]
    certificates = tmp_path / "certs"
    certificates.mkdir()
    (certificates / "ca.crt").write_bytes(Path(emulator.certificates.authority).read_bytes())
    there = f"docker://localhost:{emulator.port}/skopeo/copied:1"
    auth = tmp_path / "auth.json"
    secret = base64.b64encode(f"{registry_tokens.NOBODY}:{refresh}".encode()).decode()
    auth.write_text(json.dumps({"auths": {f"localhost:{emulator.port}": {"auth": secret}}}))
    quiet = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}

    def skopeo(*arguments: str) -> str:
        command = ["skopeo", "--insecure-policy", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=quiet, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    skopeo(
        "copy", "--preserve-digests", "--src-tls-verify=false", "--dest-cert-dir", str(certificates),
        "--dest-authfile", str(auth), f"docker://{real.name}/skopeo/source:1", there,
    )  # fmt: skip
    said = skopeo("inspect", "--cert-dir", str(certificates), "--authfile", str(auth), "--no-tags", there)
    assert json.loads(said)["Digest"] == digest
    skopeo(
        "copy", "--preserve-digests", "--src-cert-dir", str(certificates), "--src-authfile", str(auth), there,
        f"oci:{tmp_path / 'layout'}:1",
    )  # fmt: skip
    assert (tmp_path / "layout" / "blobs" / "sha256" / digest.removeprefix("sha256:")).is_file()


def test_attributes_of_tags_and_manifests(emulator: RunningEmulator) -> None:
    client = Client(emulator)
    first = push_image(client.url, "attributes/all", "1", b"first", call=client)
    second = push_image(client.url, "attributes/all", "2", b"second", call=client)
    base = f"{client.url}/acr/v1/attributes/all"
    found = client("GET", f"{base}/_tags").json()["tags"]
    assert [(item["name"], item["digest"]) for item in found] == [("1", first), ("2", second)]
    one = client("GET", f"{base}/_tags?n=1&orderby=timedesc")
    assert [item["name"] for item in one.json()["tags"]] == ["2"]
    following = client("GET", client.url + one.links["next"]["url"])
    assert [item["name"] for item in following.json()["tags"]] == ["1"]
    assert [item["name"] for item in client("GET", f"{base}/_tags?digest={first}").json()["tags"]] == ["1"]
    # Tag 1 moves on: its old manifest has no tag, and is still there.
    push_image(client.url, "attributes/all", "1", b"third", call=client)
    moved = {item["digest"]: item for item in client("GET", f"{base}/_manifests").json()["manifests"]}
    assert len(moved) == 3
    assert (moved[first]["tags"], moved[second]["tags"]) == ([], ["2"])
    said = client("GET", f"{base}/_manifests/{second}").json()["manifest"]
    assert (said["os"], said["architecture"], said["mediaType"]) == ("linux", "amd64", MANIFEST)
    whole = client("GET", base).json()
    assert (whole["manifestCount"], whole["tagCount"]) == (3, 2)
    assert "attributes/all" in client("GET", f"{client.url}/acr/v1/_catalog").json()["repositories"]
    assert client("GET", f"{base}/_tags/nosuch").status_code == 404
    assert client("GET", f"{base}/_manifests/sha256:{'0' * 64}").status_code == 404
    assert client("GET", f"{client.url}/acr/v1/no/such/_tags").status_code == 404


def big(length: int) -> Iterator[bytes]:
    """That many bytes which no two pieces of are alike."""
    number = 0
    while length > 0:
        piece = hashlib.sha256(number.to_bytes(8, "big")).digest() * 8192
        yield piece[:length]
        length, number = length - len(piece[:length]), number + 1


def resident() -> int:
    """The most memory that this process has held, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024


@pytest.mark.parametrize("chunked", [False, True])
def test_large_blob_streams_through(emulator: RunningEmulator, chunked: bool) -> None:
    """The emulator runs in this process: what it held would show here."""
    length = 400 * 2**20
    client = Client(emulator)
    # Another tail for each: what is there already is not sent again.
    tail = b"chunked" if chunked else b"sized"
    hashed = hashlib.sha256()
    for piece in big(length):
        hashed.update(piece)
    hashed.update(tail)
    digest = f"sha256:{hashed.hexdigest()}"
    token = client.access("repository:large/blob:pull,push")
    bearer = {"Authorization": f"Bearer {token}"}
    begun = client.session.post(f"{client.url}/v2/large/blob/blobs/uploads/", headers=bearer, timeout=PATIENCE)
    where = begun.headers["Location"].removeprefix(client.url)
    assert where.startswith("/v2/large/blob/blobs/uploads/")
    context = ssl.create_default_context(cafile=str(emulator.certificates.authority))
    connection = http.client.HTTPSConnection("localhost", emulator.port, timeout=PATIENCE, context=context)
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is now
    before = resident()
    headers = bearer if chunked else {**bearer, "Content-Length": str(length + len(tail))}

    def body() -> Iterator[bytes]:
        yield from big(length)
        yield tail

    connection.request("PUT", f"{where}&digest={digest}", body(), headers, encode_chunked=chunked)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (201, b"")
    connection.request("GET", f"/v2/large/blob/blobs/{digest}", headers=bearer)
    answer = connection.getresponse()
    got = hashlib.sha256()
    while piece := answer.read(2**20):
        got.update(piece)
    connection.close()
    assert f"sha256:{got.hexdigest()}" == digest
    assert resident() - before < 150 * 2**20


def test_half_a_blob_is_none(emulator: RunningEmulator, real: Registry) -> None:
    client = Client(emulator)
    token = client.access("repository:half/blob:pull,push")
    bearer = {"Authorization": f"Bearer {token}"}
    begun = client.session.post(f"{client.url}/v2/half/blob/blobs/uploads/", headers=bearer, timeout=PATIENCE)
    where = begun.headers["Location"].removeprefix(client.url)
    context = ssl.create_default_context(cafile=str(emulator.certificates.authority))
    connection = http.client.HTTPSConnection("localhost", emulator.port, timeout=PATIENCE, context=context)
    whole = b"x" * 1000
    connection.putrequest("PUT", f"{where}&digest={digest_of(whole)}")
    for name, value in {**bearer, "Content-Length": "1000"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(whole[:500])
    connection.close()
    url = f"{client.url}/v2/half/blob/blobs/{digest_of(whole)}"
    assert client("HEAD", url).status_code == 404


def test_faults_reach_the_registry(emulator: RunningEmulator) -> None:
    client = Client(emulator)
    digest = push_image(client.url, "faulty/one", "1", call=client)
    url = f"{client.url}/v2/faulty/one/manifests"
    emulator.fault(r"PUT /v2/faulty/one/manifests/2", 503, headers={"Retry-After": "1"})
    body = client("GET", f"{url}/1").content
    put: dict[str, Any] = {"data": body, "headers": {"Content-Type": MANIFEST}}
    lost = client("PUT", f"{url}/2", **put)
    assert (lost.status_code, lost.headers["Retry-After"]) == (503, "1")
    assert client("HEAD", f"{url}/2").status_code == 404
    emulator.fault(r"PUT /v2/faulty/one/manifests/3", 500, after=True)
    assert client("PUT", f"{url}/3", **put).status_code == 500
    assert client("HEAD", f"{url}/3").headers["Docker-Content-Digest"] == digest
    emulator.fault(r"PUT /v2/faulty/one/manifests/4", reset=True)
    with pytest.raises(requests.ConnectionError):
        client("PUT", f"{url}/4", **put)
    assert [item["status"] for item in emulator.requests if item["path"].endswith("/manifests/2")][:1] == [503]


def test_without_a_registry_it_says_so(make_emulator: Callable[..., RunningEmulator]) -> None:
    for options in ({}, {"registry": "http://127.0.0.1:1"}):
        client = Client(make_emulator(**options))
        answer = client("GET", f"{client.url}/v2/")
        assert answer.status_code == 503
        assert answer.json()["errors"][0]["code"] == "UNAVAILABLE"
