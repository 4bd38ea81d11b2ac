"""Pull requests made to mislead: told as they are, and nothing of theirs is run, written or followed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from edgetrain.providers import table
from tests.reconcile.proposals import (
    MACHINE,
    Hub,
    codes,
    reasons,
    sound,
    with_records,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """Tests propose to it and leave its main as it is."""
    return with_records(tmp_path_factory.mktemp("site"))


ODD = (
    "experiments/scan/$(touch pwned).py",
    "experiments/scan/`id`;x|y.py",
    "experiments/scan/::error::x.py",
    "experiments/scan/\u202egnp.exe",
    "experiments/scan/%0A::add-mask::x",
    "models/@octocat <img src=x>.md",
    "models/\nnewline",
    "compute/[x](https://evil.example).yaml",
)


def test_odd_file_names_are_told_bounded_and_printable(site: Hub) -> None:
    report = sound(site.propose(dict.fromkeys(ODD, "x = 1\n")).check())
    assert all(text.isprintable() for text in texts(report))
    assert report["changed"]["added"] == len(ODD)


def test_a_name_that_is_no_text_survives(site: Hub) -> None:
    proposal = site.propose({"experiments/scan/" + os.fsdecode(b"\xff\xfe.py"): "x = 1\n"})
    assert all(text.isprintable() for text in texts(sound(proposal.check())))


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in (key, *texts(item))]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


def test_nothing_of_the_proposal_is_run_written_or_followed(
    site: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    outside = tmp_path / "outside"
    outside.mkdir()
    touch = f"#!/bin/sh\ntouch {canary}\n"
    python = f"open({str(canary)!r}, 'w').write('x')\n"
    files: dict[str, Any] = {
        ".gitattributes": "* filter=evil diff=evil merge=evil\n",
        ".gitconfig": f'[filter "evil"]\n\tsmudge = touch {canary}\n[core]\n\tfsmonitor = touch {canary}\n',
        ".githooks/post-checkout": touch,
        "edgetrain/__init__.py": python,
        "yaml.py": python,
        "sitecustomize.py": python,
        "conftest.py": python,
        "experiments/scan/train.py": python,
        "tools/edgetrain/__init__.py": python,
        ".edgetrain/blobs.db": "not a database\n",
    }
    proposal = site.propose(files)
    link = proposal.root / ".edgetrain"
    for path in link.iterdir():
        path.unlink()
    link.rmdir()
    link.symlink_to(outside)
    monkeypatch.chdir(proposal.root)
    for name in list(table.PROVIDERS):
        monkeypatch.setitem(table.PROVIDERS, name, table.Row("tests.reconcile.test_pull_request_hostile:forbidden"))
    before = Hub(proposal.root).git("status", "--porcelain", "--ignored")
    checked = proposal.check()
    assert sound(checked)["changed"]["added"] >= 9
    assert not canary.exists()
    assert not list(outside.iterdir())
    assert Hub(proposal.root).git("status", "--porcelain", "--ignored") == before


def forbidden(_: object) -> object:
    """In the place of every provider."""
    raise AssertionError("a provider was made")


def test_links_and_submodules_are_problems_and_not_followed(site: Hub, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("apiVersion: the-secret\n")
    place = site.root / "models" / "stolen"
    site.git("checkout", "--quiet", "-B", "links", "main")
    place.mkdir()
    (place / "model.yaml").symlink_to(secret)
    (site.root / "experiments/scan/data").symlink_to("/etc")
    base = site.git("rev-parse", "main")
    head = site.commit({})
    site.git("checkout", "--quiet", "main")
    checked = site.clone(head, base, head).check()
    assert not checked.good
    assert "the-secret" not in json.dumps(checked.report)
    assert {path for path, _ in codes(checked)} >= {"models/stolen/model.yaml"}


def test_a_file_that_is_too_large_is_a_problem(site: Hub) -> None:
    checked = site.propose({"models/big/model.yaml": "# " + "x" * (3 * 2**20) + "\n"}).check()
    assert not checked.good
    assert "models/big/model.yaml" in {path for path, _ in codes(checked)}


def test_the_machines_record_on_a_branch_of_its_own_is_told(site: Hub) -> None:
    """What the machine writes on main it does not bring by a pull request: the reviewer is told."""
    path = next(iter((site.root / "experiments/scan/runs").iterdir())).relative_to(site.root).as_posix()
    data = (site.root / path).read_text().replace('"attempt":1', '"attempt":2')
    site.git("checkout", "--quiet", "-B", "machine", "main")
    base = site.git("rev-parse", "main")
    head = site.commit({path.replace("-1.json", "-2.json"): data}, MACHINE)
    site.git("checkout", "--quiet", "main")
    report = sound(site.clone(head, base, head).check())
    assert "RecordsTouched" in reasons(report)
