"""What `edgetrain audit` says of the main job, in both of its forms, and the package that it is to find."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgetrain.cli.app import app
from edgetrain.core.quantity import human_bytes
from tests.apply.site import SmallSite
from tests.outputs import told
from tests.providers.local.test_local_environment import WHEEL, wheel

SPAN = ("--since", "2000-01-01", "--until", "2100-01-01")


@contextmanager
def packaged(site: SmallSite, folder: Path) -> Iterator[None]:
    """Let the experiment train with the package `tiny`, which an index in `folder` has; the next push tells it."""
    index = folder / "simple" / "tiny"
    index.mkdir(parents=True)
    (index / "index.html").write_text(f'<!DOCTYPE html><a href="{WHEEL}">{WHEEL}</a>')
    _, lock = wheel(index)
    site.write("experiments/mean/requirements.lock", lock)
    more = "environment: {requirements: requirements.lock, "
    site.edit("experiments/mean/experiment.yaml", "environment: {", more)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
            patch.delenv(name, raising=False)
        patch.delenv("UV_DEFAULT_INDEX", raising=False)
        patch.setenv("PIP_INDEX_URL", index.parent.as_uri())
        patch.setenv("UV_CACHE_DIR", str(folder / "cache"))
        yield


def said(site: SmallSite, *words: str) -> str:
    """The answer of `edgetrain audit`."""
    ended = CliRunner().invoke(app, ["-C", str(site.clone), "audit", *words])
    assert (ended.exit_code, ended.stderr) == (0, ""), ended.output
    told(["audit", *words], ended.stdout)
    return ended.stdout


def audited(site: SmallSite, approver: str, package: str = "") -> None:
    """All that happened until mean@1 was in production, merged with the approval of `approver`; and what its facts
    touch. `package` is what it was trained with."""
    every = site.records().values()
    [run] = [record for record in every if record["kind"] == "RunRecord"]
    [release] = [record for record in every if record.get("event") == "released"]
    facts: Any = run
    report = json.loads(said(site, *SPAN, "--format", "json"))
    events = {event["kind"]: event for event in report["events"]}
    assert {"merged", "pushed", "run", "proposed", "released", "channel"} <= set(events)
    assert events["merged"]["hand"]["approvers"] == [approver]
    assert events["released"]["hand"]["approvers"] == [approver]
    assert (events["released"]["subject"], events["channel"]["what"]) == ("mean@1", "production: nothing to 1")
    left, sums = facts["egress"], report["totals"]["egress"]
    assert (sums["files"], sums["bytes"]) == (left["files"], left["bytes"]) and left["bytes"]
    assert list(sums["targets"]) == [facts["target"]["name"]]
    assert events["run"]["egress"]["level"] == "enforced"

    rows = {row["kind"]: row for row in csv.DictReader(io.StringIO(said(site, *SPAN, "--format", "csv")))}
    assert {rows[kind]["approved by"] for kind in ("merged", "released")} == {approver}
    assert (rows["released"]["subject"], rows["run"]["bytes left"]) == ("mean@1", str(left["bytes"]))
    page = said(site, *SPAN, "--format", "html")
    name, _, address = approver.partition(" <")
    words = (name, address.rstrip(">"), "Merge mean@1", "production: nothing to 1", human_bytes(left["bytes"]))
    assert all(word in page for word in (*words, release["image"]["digest"])), words  # type: ignore[index]
    assert (
        json.loads(said(site, "--since", "2000-01-01", "--until", "2000-01-02", "--format", "json"))["events"] == []
    )

    asked = [("--data", facts["inputs"]["table"]["digest"]), ("--commit", facts["commit"])]
    asked += [("--data", one["digest"]) for one in facts.get("evaluation", {}).get("inputs", {}).values()]
    asked += [("--package", package)] if package else []
    for words in asked:
        [found] = json.loads(said(site, *words, "--format", "json"))["versions"]
        assert (found["version"], found["channels"], found["released"]) == ("mean@1", ["production"], True), words
    for words in (("--package", "absent"), ("--package", "tiny==2.0"), ("--data", "sha256:" + "0" * 64)):
        assert json.loads(said(site, *words, "--format", "json"))["versions"] == []
