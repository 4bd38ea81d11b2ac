"""Staging from Azurite, with signatures that the datastore mints, to the digest that the datastore finds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.digest import digest_bytes, tree_digest
from edgetrain.core.ports import DataSource
from edgetrain.providers.azure_blob.account import account_of
from edgetrain.providers.azure_blob.datastore import AzureBlobDatastore, from_settings
from testbed.azurite import Azurite
from testbed.ca import Authority
from tests.onsite.program import Program, tree
from tests.providers.azure_blob.stores import declared, new_container
from tests.walk import WALK_ALL

pytestmark = pytest.mark.needs("azurite")
MANY = 20_000 if WALK_ALL else 400
DATA = {
    "a.csv": b"1,2\n",
    "empty": b"",
    "ünïcode/日本 %20+&?#'=.bin": b"\0" * 1000,
    "~tilde/(x)!*.txt": b"text",
    "large": os.urandom(40 * 2**20),
}


def datastore(azurite: Azurite, container: str, state: Path, **block: Any) -> AzureBlobDatastore:
    return from_settings(declared(azurite, container, state, apiVersion="2019-07-07", **block))


def source(found: DataSource) -> dict[str, Any]:
    """As the runner sends it."""
    return {"kind": found.kind, "location": found.location, "path": found.path, "access": dict(found.access)}


def test_stages_what_the_datastore_offers(azurite: Azurite, program: Program, tmp_path: Path) -> None:
    container = new_container(azurite, {f"in/{name}": content for name, content in DATA.items()} | {"inner": b"1"})
    store = datastore(azurite, container, tmp_path)
    offer = source(store.source("in/"))
    answer = program.stage(offer)
    assert answer["digest"] == store.digest("in/").digest
    assert tree(Path(answer["view"])) == DATA
    program.whole()
    assert program.stage(offer, expected=answer["digest"])["moved"] == 0
    single = program.stage(source(store.source("in/a.csv")), single=True)
    assert single["digest"] == store.digest("in/a.csv").digest
    assert (single["moved"], tree(Path(single["view"]))) == (0, {"a.csv": b"1,2\n"})
    azurite.put(container, {"in/a.csv": b"3,4\n"})
    changed = program.run("stage", offer, expected=answer["digest"])
    assert changed["error"]["reason"] == "DataChanged"
    assert offer["access"]["sas"].partition("sig=")[2][:20] not in json.dumps(changed)
    assert program.run("probe", offer)["probe"]["found"] is True


def test_many_blobs(azurite: Azurite, program: Program) -> None:
    blobs = {f"n/{number:05}": b"%d" % number for number in range(MANY)}
    container = new_container(azurite, blobs)
    store = datastore(azurite, container, program.cache)
    answer = program.stage(source(store.source("n")))
    assert answer["digest"] == tree_digest((name[2:], digest_bytes(content)) for name, content in blobs.items())
    assert (answer["files"], answer["moved"]) == (MANY, sum(map(len, blobs.values())))


def test_signatures_that_are_not_good(azurite: Azurite, program: Program, tmp_path: Path) -> None:
    container = new_container(azurite, {"x": b"1"})
    offer = source(datastore(azurite, container, tmp_path).source(""))
    error = program.fails(with_sas(offer, offer["access"]["sas"].replace("sig=", "sig=AAAA")))
    assert (error["kind"], error["reason"]) == ("Denied", "Denied")
    past = AzureBlobDatastore(
        account=account_of(declared(azurite, container, tmp_path)),
        cache=tmp_path,
        clock=lambda: datetime.now(UTC) - timedelta(hours=9),
    )
    error = program.fails(source(past.source("")))
    assert (error["kind"], error["reason"]) == ("Transient", "SasExpired")
    missing = {**offer, "location": offer["location"] + "x"}
    assert program.fails(missing)["reason"] in ("NotFound", "Denied")


def test_a_private_authority(program: Program, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with Azurite(tls=authority.issue("127.0.0.1"), ca_bundle=authority.bundle) as azurite:
        azurite.put("data", DATA)
        offer = source(datastore(azurite, "data", tmp_path, caBundle=str(authority.bundle)).source(""))
        assert tree(Path(program.stage(offer)["view"])) == DATA
        other = Authority(tmp_path / "other").bundle.read_text()
        strange = {**offer, "access": {**offer["access"], "caBundle": other}}
        error = program.fails(strange)
        assert (error["kind"], error["reason"]) == ("Rejected", "CertificateUntrusted")


def with_sas(offer: Mapping[str, Any], sas: str) -> dict[str, Any]:
    return {**offer, "access": {**offer["access"], "sas": sas}}
