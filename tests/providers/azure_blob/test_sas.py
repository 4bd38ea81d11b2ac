"""Signatures: right for every version's layout, accepted by the service, good for reading and listing only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import urllib.parse
from datetime import UTC, datetime, timedelta

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import ContainerClient, generate_container_sas
from azure.storage.blob._shared.constants import X_MS_VERSION

from edgetrain.core.errors import Denied
from edgetrain.providers.azure_blob.sas import container_sas, read_sas
from testbed.azurite import Azurite

from .stores import VERSIONS, new_container

KEY = base64.b64encode(b"k" * 64).decode()
NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
# The layouts as "Create a service SAS" documents them: what follows the common part up to the version.
COMMON = "rl\n2026-07-01T11:55:00Z\n2026-07-01T13:00:00Z\n/blob/hub/imaging\n\n{addresses}\n{protocol}\n{version}\n"
LAYOUTS = {
    "2017-11-09": COMMON + "\n\n\n\n",  # rscc rscd rsce rscl rsct
    "2018-11-09": COMMON + "c\n\n" + "\n\n\n\n",  # resource, snapshot time, then the same
    "2019-02-02": COMMON + "c\n\n" + "\n\n\n\n",
    "2019-07-07": COMMON + "c\n\n" + "\n\n\n\n",
    "2020-12-06": COMMON + "c\n\n\n" + "\n\n\n\n",  # resource, snapshot time, encryption scope
    "2024-11-04": COMMON + "c\n\n\n" + "\n\n\n\n",
}


def fields(sas: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(sas, strict_parsing=True))


@pytest.mark.parametrize("version", LAYOUTS)
@pytest.mark.parametrize(("secure", "protocol"), [(True, "https"), (False, "https,http")])
@pytest.mark.parametrize("addresses", ["", "10.20.4.1-10.20.4.99"])
def test_each_version_signs_its_documented_layout(
    version: str, secure: bool, protocol: str, addresses: str
) -> None:
    sas = container_sas(
        account="hub",
        container="imaging",
        key=KEY,
        version=version,
        now=NOON,
        lifetime=HOUR,
        secure=secure,
        addresses=addresses,
    )
    text = LAYOUTS[version].format(version=version, protocol=protocol, addresses=addresses)
    signature = base64.b64encode(hmac.new(b"k" * 64, text.encode(), hashlib.sha256).digest()).decode()
    expected = {
        "sv": version,
        "sr": "c",
        "sp": "rl",
        "st": "2026-07-01T11:55:00Z",
        "se": "2026-07-01T13:00:00Z",
        "spr": protocol,
        "sig": signature,
    }
    assert fields(sas) == expected | ({"sip": addresses} if addresses else {})


def test_the_sdk_signs_its_own_version_alike() -> None:
    ours = container_sas(
        account="hub",
        container="imaging",
        key=KEY,
        version=X_MS_VERSION,
        now=NOON,
        lifetime=HOUR,
        addresses="10.0.0.1",
    )
    theirs = generate_container_sas(
        "hub",
        "imaging",
        account_key=KEY,
        permission="rl",
        start=NOON - timedelta(minutes=5),
        expiry=NOON + HOUR,
        protocol="https",
        ip="10.0.0.1",
    )
    assert fields(ours) == fields(theirs)


@pytest.mark.needs("azurite")
@pytest.mark.parametrize("version", [*VERSIONS, "2020-12-06"])
def test_the_service_lets_it_read_and_list_and_nothing_else(azurite: Azurite, version: str) -> None:
    name = new_container(azurite, {"a/x.csv": b"1"})

    def client(lifetime: timedelta = HOUR, addresses: str = "", container: str = name) -> ContainerClient:
        sas = container_sas(
            account=azurite.account,
            container=name,
            key=azurite.key,
            version=version,
            now=datetime.now(UTC),
            lifetime=lifetime,
            secure=False,
            addresses=addresses,
        )
        return ContainerClient(f"{azurite.endpoint}", container, credential=sas, api_version="2019-02-02")

    with client(addresses="127.0.0.1") as bound:  # Azurite checks the signature, not the address
        assert [blob.name for blob in bound.list_blobs()] == ["a/x.csv"]
    with client() as good:
        assert [blob.name for blob in good.list_blobs()] == ["a/x.csv"]
        assert good.download_blob("a/x.csv").readall() == b"1"
        for forbidden in (
            lambda: good.upload_blob("b", b"2"),
            lambda: good.delete_blob("a/x.csv"),
            lambda: good.get_blob_client("a/x.csv").set_blob_metadata({"a": "b"}),
        ):
            with pytest.raises(HttpResponseError) as caught:
                forbidden()
            assert caught.value.status_code == 403
    other = new_container(azurite, {"a/x.csv": b"1"})
    for bad in (client(-timedelta(minutes=1)), client(container=other)):
        with bad, pytest.raises(HttpResponseError) as caught:
            list(bad.list_blobs())
        assert caught.value.status_code == 403


def test_a_key_that_is_none_is_refused_untold() -> None:
    with pytest.raises(Denied) as caught:
        container_sas(account="a", container="b", key="not a key!", version="2019-07-07", now=NOON, lifetime=HOUR)
    assert caught.value.reason == "KeyMalformed"
    assert "not a key" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reads_only"),
    [
        ("sv=2019-07-07&sr=c&sp=rl&se=2026-07-01T13:00:00Z&sig=x", True),
        ("?sv=2019-07-07&sr=c&sp=lr&se=2026-07-01&sig=x", True),
        ("sv=2019-07-07&sr=c&sp=racwdl&se=2026-07-01T13:00:00Z&sig=x", False),
        ("sv=2019-07-07&sr=c&sp=r&se=2026-07-01T13:00:00Z&sig=x", False),  # can't list
        ("sv=2019-07-07&sr=b&sp=rl&se=2026-07-01T13:00:00Z&sig=x", False),  # of one blob
        ("sv=2019-07-07&ss=b&srt=co&sp=rl&se=2026-07-01T13:00:00Z&sig=x", False),  # of the account
        ("sv=2019-07-07&sr=c&si=policy&sig=x", False),  # what it allows can change behind it
        ("sv=2019-07-07&sr=c&sp=rl&si=policy&se=2026-07-01T13:00:00Z&sig=x", False),
    ],
)
def test_what_a_given_signature_allows(text: str, reads_only: bool) -> None:
    given = read_sas(text)
    assert given.reads_only is reads_only
    assert (given.expiry is None) == ("se=" not in text)


@pytest.mark.parametrize(
    "text", ["", "key", "https://hub/imaging?sv=2019-07-07&sig=x", "sv=2019-07-07", "sig=only", "?"]
)
def test_what_is_no_signature_is_refused(text: str) -> None:
    with pytest.raises(Denied) as caught:
        read_sas(text)
    assert caught.value.reason == "SasMalformed"
    assert not text or text not in caught.value.message
