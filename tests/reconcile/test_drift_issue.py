"""`edgetrain drift --issue`: one issue while something drifts, and none when nothing does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt

from edgetrain.cli.app import app
from edgetrain.core.errors import Transient, UsageError
from edgetrain.core.plan import Change, Difference, Effect, Operation
from edgetrain.core.problem import Problem
from edgetrain.providers.mlflow.provider import MlflowWorkspace
from edgetrain.providers.oci_layout.provider import OciLayoutRegistry
from edgetrain.reconcile.drift import drift_of_main, issue_mark, keep_issue
from edgetrain.render.drift import Drift
from edgetrain.render.drift_issue import issue_body, issue_title
from tests import memory_forge
from tests.apply.site import SmallSite
from tests.cli.command import edgetrain
from tests.memory_forge import MemoryForge

GOLDEN = Path(__file__).parent / "golden"
EVIL = "x](https://evil.example) @someone <img src=x> | y\n# z `"
TAG = Change(
    "tag/mean@1/1",
    Operation.TAG,
    Effect.UPDATE,
    "TagMoved",
    (Difference("tag", "sha256:" + "ab" * 32, "sha256:" + "cd" * 32),),
)
ALIAS = Change(
    "channel/mean/production",
    Operation.MOVE,
    Effect.UPDATE,
    "ChannelDrifted",
    (Difference("alias.production", None, 1),),
)
FOUND = Drift(
    site="st-anna",
    commit="1" * 40,
    drifted=(TAG, ALIAS),
    foreign=(("foreign/mean", "registered by others, left alone: 7"),),
    refused=(
        Problem("compute/hub.yaml", 3, 1, "P513", "hub is attached by somebody else", "Choose another name."),
    ),
    noted=(("workspace", "a note"),),
    pending=2,
)


def test_the_issue_is_readable(golden: Callable[[Path, str], None]) -> None:
    golden(GOLDEN / "drift-issue.md", issue_body(FOUND) or "")


def test_only_drift_changes_the_text() -> None:
    assert issue_body(replace(FOUND, commit="2" * 40, pending=0, noted=())) == issue_body(FOUND)
    assert issue_body(replace(FOUND, drifted=(TAG,))) != issue_body(FOUND)
    assert issue_body(replace(FOUND, drifted=(), foreign=(), refused=())) is None


def test_names_of_others_stay_text() -> None:
    body = issue_body(replace(FOUND, foreign=((EVIL, EVIL),))) or ""
    html = MarkdownIt("commonmark").enable("table").render(body)
    assert "<img" not in html
    assert "<a " not in html
    assert "@someone" not in re.sub(r"<code>.*?</code>", "", html, flags=re.DOTALL)
    assert html.count("<tr>") == 5


def test_as_many_objects_as_an_issue_holds() -> None:
    many = tuple(replace(TAG, id=f"tag/mean@{number}/{'&' * 60}") for number in range(2000))
    body = issue_body(replace(FOUND, drifted=many)) or ""
    assert len(body) < 65_000
    left = body.count("\n| <code>tag/mean")
    assert f"{2000 + 2 - left} more objects" in body


def test_marks_of_sites_differ_and_are_not_too_long() -> None:
    long = ["a" * 63, "a" * 62 + "b"]
    assert len({issue_mark(name) for name in [*long, "here"]}) == 3
    assert all(len(issue_mark(name)) <= 64 for name in long)


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryForge:
    return memory_forge.serve(monkeypatch, MemoryForge(remote=tmp_path / "a site" / "remote.git"))


@pytest.fixture
def site(tmp_path: Path, forge: MemoryForge) -> SmallSite:
    made = SmallSite(tmp_path / "a site").make()
    made.release()
    made.sync()
    text = (made.clone / "edgetrain.yaml").read_text()
    made.write("edgetrain.yaml", text + memory_forge.block(forge))
    made.push("Declare the forge")
    return made


def drift_with_issue(root: Path) -> tuple[Drift, int | None]:
    """What the command does."""
    found, forge = drift_of_main(root)
    return found, keep_issue(forge, found)


def test_one_issue_is_kept_updated_and_closed(site: SmallSite, forge: MemoryForge) -> None:
    assert drift_with_issue(site.clone)[1] is None
    assert not forge.issues
    OciLayoutRegistry(root=site.state / "images").tag("mean", "1", None)
    found, number = drift_with_issue(site.clone)
    assert number is not None
    first = forge.issues[number]
    assert (first.title, first.text, first.open) == (issue_title(found), issue_body(found), True)
    assert first.labels == {"edgetrain"}

    MlflowWorkspace(uri="", state=site.state).alias("mean", "production", None)
    assert drift_with_issue(site.clone)[1] == number
    assert "channel/mean/production" in forge.issues[number].text
    assert len(forge.issues) == 1

    forge.shut(number)  # people have seen it
    assert drift_with_issue(site.clone)[1] == number
    assert not forge.issues[number].open

    MlflowWorkspace(uri="", state=site.state).alias("mean", "production", 1)
    assert drift_with_issue(site.clone)[1] == number
    assert forge.issues[number].open, "something else drifts now"
    released = next(record for record in site.records().values() if record.get("event") == "released")
    image = released["image"]
    assert isinstance(image, dict)
    OciLayoutRegistry(root=site.state / "images").tag("mean", "1", image["digest"])
    found, closed = drift_with_issue(site.clone)
    assert (found.any, closed) == (False, None)
    assert not forge.issues[number].open


def test_a_forge_that_is_away_is_told_and_nothing_is_lost(site: SmallSite, forge: MemoryForge) -> None:
    OciLayoutRegistry(root=site.state / "images").tag("mean", "1", None)
    forge.fail("issue", Transient("the forge does not answer"))
    ended = CliRunner().invoke(app, ["-C", str(site.clone), "drift", "--issue"])
    assert ended.exit_code == 3
    assert "tag/mean@1/1" in ended.output, "what drifted is told all the same"
    assert "the forge does not answer" in ended.output
    assert drift_with_issue(site.clone)[1] is not None


def test_main_is_what_counts_and_not_what_lies_in_the_checkout(site: SmallSite) -> None:
    site.write("models/mean/model.yaml", "nonsense")
    assert not drift_with_issue(site.clone)[0].any


def test_without_a_forge_it_says_what_to_declare(tmp_path: Path) -> None:
    site = SmallSite(tmp_path / "a site").make()
    with pytest.raises(UsageError, match="no forge"):
        drift_with_issue(site.clone)
    ended = edgetrain("drift", "--issue", cwd=site.clone)
    assert ended.code == 2
    assert "spec.forge" in ended.err
