"""`edgetrain verify`: what holds, what was altered, and what a clone can't tell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgetrain.core.digest import digest_of, parse_canonical
from edgetrain.core.errors import UsageError
from edgetrain.core.ports import CheckStatus
from edgetrain.core.record import serialise
from edgetrain.providers.mlflow.provider import MlflowWorkspace
from edgetrain.reconcile import verify as verify_module
from edgetrain.reconcile.verify import verify
from edgetrain.reconcile.verify_checks import parts_of
from edgetrain.reconcile.verify_facts import _PLACE, digests_with
from edgetrain.render.verify import Verification, verify_json, verify_markdown, verify_text
from edgetrain.repo import beside
from tests.apply.site import SmallSite
from tests.cli.command import edgetrain
from tests.outputs import sound

RELEASE = "models/mean/versions/1.release-1.json"


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> SmallSite:
    """A site with one released version in production; tests work on clones of it."""
    site = SmallSite(tmp_path_factory.mktemp("verify") / "a site").make()
    site.release()
    return site


@pytest.fixture
def site(applied: SmallSite, tmp_path: Path) -> SmallSite:
    """A clone whose main may be spoilt: it is its own remote's main only here."""
    copy = SmallSite(applied.second_clone(tmp_path / "copy"))
    copy.state, copy.data = applied.state, applied.data
    return copy


def git(site: SmallSite, *arguments: str) -> str:
    who = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in (("NAME", "M"), ("EMAIL", "edgetrain@localhost"))
    }
    return subprocess.run(
        ["git", *arguments], cwd=site.clone, env={**os.environ, **who}, check=True, capture_output=True, text=True
    ).stdout


def spoil(site: SmallSite, path: str, change: dict[str, object]) -> None:
    """Rewrite a record on main as only someone with the machine's name could."""
    data = parse_canonical((site.clone / path).read_bytes())
    (site.clone / path).write_bytes(serialise({**data, **change}))
    git(site, "commit", "--quiet", "--all", "--amend", "--no-edit")
    git(site, "remote", "remove", "origin")


def wrong(found: Verification) -> list[tuple[str, str]]:
    return [(p.title, c.name) for p in found.parts for c in p.checks if c.status is CheckStatus.FAIL]


def test_what_was_applied_holds_and_deep_too(applied: SmallSite) -> None:
    found = verify(applied.clone, None)
    assert wrong(found) == []
    assert found.holds
    names = {check.name for part in found.parts for check in part.checks}
    assert {"files", "run-record", "manifest", "code", "lock", "identity", "release-1", "channel"} <= names
    deep = verify(applied.clone, "mean@production", deep=True)
    assert wrong(deep) == []
    names = {check.name for part in deep.parts for check in part.checks}
    assert {"workspace", "workspace-tag", "alias", "image-manifest", "image-tag", "artifact"} <= names
    assert "it holds" in verify_text(found)
    assert verify_markdown(deep).startswith("### edgetrain verify mean&#64;")
    assert sound("verify", verify_json(found))["holds"] is True


def test_a_release_of_another_manifest_does_not_hold(site: SmallSite) -> None:
    spoil(site, RELEASE, {"manifest": "sha256:" + "0" * 64})
    found = verify(site.clone, "mean@1")
    assert ("version mean@1", "release-1") in wrong(found)
    assert not found.holds
    done = edgetrain("verify", "mean", cwd=site.clone)
    assert done.code == 1


def test_a_run_record_that_tells_of_other_code_does_not_hold(site: SmallSite) -> None:
    [path] = [str(p.relative_to(site.clone)) for p in site.clone.glob("experiments/mean/runs/*-1.json")]
    spoil(site, path, {"manifest": "sha256:" + "0" * 64})
    names = {name for _, name in wrong(verify(site.clone, None))}
    # The version cites the record by its digest, so that is gone as well.
    assert "run-record" in names
    assert "manifest" in names


def test_a_second_process_finds_the_same(site: SmallSite, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(site, RELEASE, {"manifest": "sha256:" + "0" * 64})
    alone = verify(site.clone, None)
    monkeypatch.setattr(verify_module, "WORTH_IT", 1)
    monkeypatch.setattr(beside.threading, "active_count", lambda: 1)
    monkeypatch.setattr(beside, "_processors", lambda: {0, 1})
    answers: list[object] = []
    monkeypatch.setattr(verify_module, "parts_of", lambda told: answers.append(told) or parts_of(told))
    assert verify(site.clone, None) == alone
    assert len(answers) == 1
    assert ("version mean@1", "release-1") in wrong(alone)
    monkeypatch.setattr(verify_module, "plainly", lambda parts: parts[10**6])  # it dies
    assert verify(site.clone, None) == alone
    assert len(answers) == 1


@given(
    st.dictionaries(
        st.text("abstz", max_size=2), st.integers(0, 9) | st.sampled_from(["staged", _PLACE]), max_size=4
    ),
    st.lists(st.lists(st.text(max_size=2), max_size=2), max_size=3),
)
@example({"t": {"staged": _PLACE}}, [["a"], []])
@example({"a": {"staged": _PLACE}}, [["a"], []])
def test_facts_that_are_written_once_have_the_digests_of_each(facts: dict[str, Any], values: list[Any]) -> None:
    assert list(digests_with(facts, "staged", values)) == [digest_of({**facts, "staged": v}) for v in values]


def test_what_changed_outside_shows_only_deep(applied: SmallSite) -> None:
    workspace = MlflowWorkspace(uri="", state=applied.state)
    workspace.alias("mean", "production", None)
    try:
        assert verify(applied.clone, "mean").holds
        assert wrong(verify(applied.clone, "mean", deep=True)) == [("outside mean@1", "alias")]
    finally:
        workspace.alias("mean", "production", 1)


def test_a_damaged_artifact_shows_although_its_size_is_right(applied: SmallSite) -> None:
    [output] = applied.records()[
        str(next(applied.clone.glob("experiments/mean/runs/*-1.json")).relative_to(applied.clone))
    ]["outputs"].values()  # type: ignore[attr-defined]
    digest = output["files"][0]["digest"].removeprefix("sha256:")
    [file] = [
        f for f in (applied.state / "artifacts").rglob("*") if f.is_file() and digest in f"{f.parent.name}{f.name}"
    ]
    data, mode = file.read_bytes(), file.stat().st_mode
    file.chmod(0o600)
    file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    try:
        assert wrong(verify(applied.clone, "mean@1", deep=True)) == [("outside mean@1", "artifact")]
    finally:
        file.write_bytes(data)
        file.chmod(mode)


def test_a_shallow_clone_says_what_it_cant_tell(applied: SmallSite, tmp_path: Path) -> None:
    subprocess.run(
        ["git", "clone", "--quiet", "--depth", "1", applied.remote.as_uri(), str(tmp_path / "shallow")], check=True
    )
    found = verify(tmp_path / "shallow", "mean@1")
    assert found.holds
    assert [c.reason for p in found.parts for c in p.checks if c.name == "manifest"] == ["HistoryCutOff"]


def test_an_unknown_name_is_usage(applied: SmallSite) -> None:
    with pytest.raises(UsageError):
        verify(applied.clone, "meen")
