"""The comment from an artifact: written in place for an honest report, refused for everything else."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetrain.core.errors import NotFound, Rejected, Transient, UsageError
from edgetrain.core.ports.forge import MOST_FILES
from edgetrain.reconcile.pull_request_comment import (
    ARTIFACT,
    MOST_BYTES,
    MOST_ZIPPED,
    comment,
    forge_of,
    read_report,
)
from tests.memory_forge import MemoryForge, serve
from tests.reconcile.proposals import FILES, Hub, hub
from tests.render import reports

HEAD = "1f" * 20
UNBELIEVED = "### edgetrain: there is no report that can be believed\n"


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip with these files."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return data.getvalue()


def packed(report: Any, name: str = "report.json") -> bytes:
    """An artifact as actions/upload-artifact makes it."""
    return zipped((name, json.dumps(report).encode()))


@dataclass
class Desk:
    """A checkout of main where the comment is written, its forge, and a pull request there."""

    root: Path
    forge: MemoryForge
    number: int
    run: int

    def report(self, **more: Any) -> dict[str, Any]:
        """An honest report of the pull request."""
        return reports.report(**{"number": self.number, "head": HEAD, **more})

    def write(self, artifact: bytes, run: int | None = None) -> None:
        """Keep the artifact, and comment."""
        run = self.run if run is None else run
        self.forge.upload(run, ARTIFACT, artifact)
        comment(self.root, run)

    def refused(self, artifact: bytes, reason: str, run: int | None = None) -> str:
        """The words with which it is refused; nothing is written anywhere, but on the run's own pull request that
        there is no report."""
        with pytest.raises(Rejected) as caught:
            self.write(artifact, run)
        assert caught.value.reason == reason
        assert caught.value.fix
        run = self.run if run is None else run
        for number, comments in self.forge.comments.items():
            assert not comments or self.forge.pulls[number].is_of(self.forge.workflow_run(run))
            assert all(text.startswith(UNBELIEVED) for text in self.forge.texts(number, "plan"))
        return caught.value.message


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    return hub(tmp_path_factory.mktemp("desk"))


@pytest.fixture
def desk(checkout: Hub, monkeypatch: pytest.MonkeyPatch) -> Desk:
    forge = serve(monkeypatch, MemoryForge("hosp/models"))
    number = forge.open("change", by="ada", head=HEAD)
    forge.files[number] = {"README.md"}
    return Desk(checkout.root, forge, number, forge.run(head=HEAD))


def test_an_honest_report_becomes_one_comment_that_is_kept_in_place(desk: Desk) -> None:
    desk.write(packed(desk.report()))
    (first,) = desk.forge.texts(desk.number, "plan")
    assert first.startswith("### edgetrain: no changes\n")
    plan = {"digest": reports.DATA, "summary": "1 to train", "due": ""}
    later = desk.forge.run(head=HEAD)
    desk.write(packed(desk.report(plan=plan)), later)
    desk.write(packed(desk.report(plan=plan)), later)
    (second,) = desk.forge.texts(desk.number, "plan")
    assert second.startswith("### edgetrain: 1 to train\n")
    assert len(desk.forge.comments[desk.number]) == 1


def test_a_fork_is_told_by_its_own_repository(desk: Desk) -> None:
    number = desk.forge.open("change", by="mallory", repository="mallory/models", head="2f" * 20)
    run = desk.forge.run(head="2f" * 20, repository="mallory/models")
    desk.write(packed(desk.report(number=number, head="2f" * 20)), run)
    assert len(desk.forge.texts(number, "plan")) == 1


# --- whose report it is --------------------------------------------------------------------------------


def test_the_number_of_another_pull_request_is_refused(desk: Desk) -> None:
    other = desk.forge.open("other", by="grace", head="3f" * 20)
    desk.refused(packed(desk.report(number=other)), "OtherPullRequest")
    desk.refused(packed(desk.report(number=999)), "OtherPullRequest")
    desk.refused(packed(desk.report(number=other, head="3f" * 20)), "OtherHead")


def test_a_pull_request_of_the_same_head_in_another_repository_is_refused(desk: Desk) -> None:
    run = desk.forge.run(head=HEAD, repository="mallory/models")
    desk.refused(packed(desk.report()), "OtherPullRequest", run)
    run = desk.forge.run(head=HEAD, branch="elsewhere")
    desk.refused(packed(desk.report()), "OtherPullRequest", run)


def test_a_head_that_was_pushed_over_is_refused(desk: Desk) -> None:
    desk.forge.push("change", "4f" * 20)
    assert "pushed to meanwhile" in _fix(desk, packed(desk.report()))


def _fix(desk: Desk, artifact: bytes) -> str:
    with pytest.raises(Rejected) as caught:
        desk.write(artifact)
    return caught.value.fix


def test_a_head_that_is_pushed_over_while_its_files_are_asked_for_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a report of workflows that were changed, and put back at once, would be believed."""
    told = desk.forge.changed_files

    def pushed(number: int) -> Sequence[str]:
        desk.forge.push("change", "4f" * 20)
        return told(number)

    monkeypatch.setattr(desk.forge, "changed_files", pushed)
    desk.refused(packed(desk.report()), "OtherPullRequest")


@pytest.mark.parametrize("event", ["push", "workflow_dispatch", "pull_request_target", "schedule", ""])
def test_a_run_of_another_event_is_refused_and_its_artifact_not_asked_for(desk: Desk, event: str) -> None:
    desk.refused(packed(desk.report()), "OtherEvent", desk.forge.run(event, head=HEAD))
    assert "artifact" not in desk.forge.calls


def test_a_pull_request_into_another_branch_gets_no_comment(desk: Desk) -> None:
    """Its check is of that branch's workflows, and anybody who can push makes one."""
    desk.forge.pulls[desk.number] = replace(desk.forge.pulls[desk.number], base="ada/base")
    desk.refused(packed(desk.report()), "OtherBase")
    assert not any(desk.forge.comments.values())


def test_a_closed_pull_request_gets_no_comment(desk: Desk) -> None:
    desk.forge.shut(desk.number)
    desk.refused(packed(desk.report()), "Closed")


def test_a_run_without_a_report_is_not_found(desk: Desk) -> None:
    with pytest.raises(NotFound):
        comment(desk.root, desk.run)


# --- where there is no report to believe -----------------------------------------------------------------


@pytest.mark.parametrize("artifact", [None, b"{}"])
@pytest.mark.parametrize("conclusion", ["success", "failure", "cancelled"])
def test_workflows_that_keep_their_report_back_are_told_in_the_place_of_what_was_said(
    desk: Desk, artifact: bytes | None, conclusion: str
) -> None:
    """Else what was said of a harmless commit would stand below one that lets the check say nothing."""
    desk.write(packed(desk.report()))
    desk.forge.push("change", "4f" * 20)
    desk.forge.files[desk.number] = {
        ".github/workflows/pull-request.yml",
        "edgetrain.yaml",
        "a`](https://evil.example)",
    }
    run = desk.forge.run(head="4f" * 20, conclusion=conclusion)
    if artifact is not None:
        desk.forge.upload(run, ARTIFACT, artifact)
    with pytest.raises((NotFound, Rejected)):
        comment(desk.root, run)
    (text,) = desk.forge.texts(desk.number, "plan")
    assert text.startswith(UNBELIEVED)
    assert "> [!CAUTION]" in text and "> [!WARNING]" in text
    assert "<b>No check of it counts</b>: it changes the workflows that check it" in text
    assert "<b>Workflows</b> (<code>.github/workflows/pull-request.yml</code>)" in text
    assert "<b>edgetrain.yaml</b>" in text and "4f4f4f4f4f4f" in text and HEAD[:12] not in text
    later = desk.forge.run(head="4f" * 20)
    desk.write(packed(desk.report(head="4f" * 20)), later)
    (text,) = desk.forge.texts(desk.number, "plan")
    assert text.startswith("### edgetrain: this changes the workflows that check it\n")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({".github/workflows/a`](https://evil.example)<b>@ada"}, "it changes the workflows that check it"),
        ({f"models/{n}.txt" for n in range(MOST_FILES)}, "and so perhaps the workflows that check it"),
        ({"README.md"}, ""),
    ],
)
def test_where_there_is_no_report_names_are_values_and_what_is_not_told_is_said(
    desk: Desk, files: set[str], told: str
) -> None:
    desk.forge.files[desk.number] = files
    with pytest.raises(NotFound):
        comment(desk.root, desk.run)
    (text,) = desk.forge.texts(desk.number, "plan")
    assert text.startswith(UNBELIEVED) and told in text
    assert ("> [!WARNING]" in text) is bool(told)
    assert "](" not in text and "https://" not in text and "@ada" not in text and "<b>&" not in text


def test_a_run_that_a_newer_one_replaced_is_passed_by(desk: Desk) -> None:
    desk.write(packed(desk.report()))
    (before,) = desk.forge.texts(desk.number, "plan")
    assert comment(desk.root, desk.forge.run(head=HEAD, conclusion="cancelled")) is None
    assert comment(desk.root, desk.forge.run(head="4f" * 20, conclusion="cancelled")) is None
    assert desk.forge.texts(desk.number, "plan") == [before]


def test_who_warns_says_nothing_of_a_head_that_was_pushed_over(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    told = desk.forge.changed_files

    def pushed(number: int) -> Sequence[str]:
        desk.forge.push("change", "4f" * 20)
        return told(number)

    monkeypatch.setattr(desk.forge, "changed_files", pushed)
    with pytest.raises(NotFound):
        comment(desk.root, desk.run)
    assert not any(desk.forge.comments.values())


def test_what_the_forge_fails_in_passes_through(desk: Desk) -> None:
    desk.forge.fail("comment", Transient("later"))
    with pytest.raises(Transient):
        desk.write(packed(desk.report()))
    desk.write(packed(desk.report()))
    assert len(desk.forge.comments[desk.number]) == 1


def test_a_repository_without_a_forge_is_usage(tmp_path: Path) -> None:
    made = hub(tmp_path)
    made.commit({"edgetrain.yaml": FILES["edgetrain.yaml"].replace("  forge: {type", "  # {type")})
    with pytest.raises(UsageError, match="declares no forge"):
        forge_of(made.root)
    made.commit({"edgetrain.yaml": "spec: [\n"})
    with pytest.raises(UsageError, match="can't be read"):
        forge_of(made.root)


# --- what the forge says beside it ---------------------------------------------------------------------


def test_a_report_that_hides_a_change_of_the_workflows_is_doubted(desk: Desk) -> None:
    desk.forge.files[desk.number] = {".github/workflows/pull-request.yml", "edgetrain.yaml", "README.md"}
    desk.write(packed(desk.report()))
    (text,) = desk.forge.texts(desk.number, "plan")
    assert text.startswith("### edgetrain: this changes the workflows that check it\n")
    assert "> [!CAUTION]" in text and "> [!WARNING]" in text
    assert "<b>Workflows</b> (<code>.github/workflows/pull-request.yml</code>)" in text
    assert "<b>edgetrain.yaml</b>" in text


def test_what_the_report_warns_of_by_contents_stays(desk: Desk) -> None:
    desk.forge.files[desk.number] = {"edgetrain.yaml"}
    found = reports.difference("spec.limits.updates.absolute", "20", "9999")
    told = {"reason": "ConfigurationChanged", "paths": ["elsewhere"], "count": 1, "differences": [found]}
    gates = {"reason": "GatesChanged", "paths": ["models/a/model.yaml"], "count": 1, "differences": []}
    desk.write(packed(desk.report(attention=[gates, told])))
    (text,) = desk.forge.texts(desk.number, "plan")
    assert "9999" in text and "elsewhere" not in text and "<b>Gates</b>" in text
    assert text.index("edgetrain.yaml</b>") < text.index("<b>Gates</b>")


def test_more_files_than_the_forge_tells_are_said_to_be(desk: Desk) -> None:
    desk.forge.files[desk.number] = {f"models/{n}.txt" for n in range(MOST_FILES)}
    desk.write(packed(desk.report()))
    (text,) = desk.forge.texts(desk.number, "plan")
    assert text.startswith("### edgetrain: this may change the workflows that check it\n")
    assert "changes more files than the forge tells, and so perhaps the workflows" in text
    assert "a warning may be missing" in text


# --- what it is ----------------------------------------------------------------------------------------


def test_an_artifact_that_is_too_large_is_never_read(desk: Desk) -> None:
    with pytest.raises(Rejected, match="more than"):
        desk.write(b"x" * (MOST_ZIPPED + 1))


def bomb() -> bytes:
    return zipped(("report.json", b" " * (MOST_BYTES + 1)))


def liar() -> bytes:
    """A bomb whose directory says that it is small."""
    data = bytearray(bomb())
    for sign, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = data.index(sign) + place
        data[at : at + 4] = struct.pack("<I", 100)
    return bytes(data)


def link() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        entry = zipfile.ZipInfo("report.json")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    return data.getvalue()


def scrambled(place: int, value: int) -> bytes:
    """An honest zip with one byte of its directory's entry replaced."""
    data = bytearray(packed(reports.report()))
    data[data.index(b"PK\x01\x02") + place] = value
    return bytes(data)


GOOD = json.dumps(reports.report(number=1, head=HEAD)).encode()
GREAT = json.dumps(reports.GOOD).encode()
ARTIFACTS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no zip": lambda: b"{}",
    "an empty zip": zipped,
    "two files": lambda: zipped(("report.json", GOOD), ("more.json", GOOD)),
    "one file twice": lambda: zipped(("report.json", GOOD), ("report.json ", GOOD)),
    "a folder": lambda: zipped(("report.json/", b"")),
    "a way up": lambda: zipped(("../report.json", GOOD)),
    "an absolute path": lambda: zipped(("/tmp/report.json", GOOD)),
    "a folder's file": lambda: zipped(("a/report.json", GOOD)),
    "a backslash": lambda: zipped(("..\\report.json", GOOD)),
    "a drive": lambda: zipped(("C:report.json", GOOD)),
    "a NUL": lambda: zipped(("report.json_.txt", GOOD)).replace(b"json_", b"json\0"),
    "another ending": lambda: zipped(("report.sh", GOOD)),
    "bzip2": lambda: zipped(("report.json", GOOD), method=zipfile.ZIP_BZIP2),
    "lzma": lambda: zipped(("report.json", GOOD), method=zipfile.ZIP_LZMA),
    "a password": lambda: scrambled(8, 1),
    "an unknown method": lambda: scrambled(10, 99),
    "a wrong checksum": lambda: scrambled(16, 0xFF),
    "a wrong size": liar,
    "a link": link,
    "cut off": lambda: packed(reports.report())[:-30],
    "no JSON": lambda: zipped(("report.json", b"{")),
    "not UTF-8": lambda: zipped(("report.json", b'{"a": "\xff"}')),
    "UTF-16": lambda: zipped(("report.json", GOOD.decode().encode("utf-16"))),
    "a text": lambda: zipped(("report.json", b'"report"')),
    "a list": lambda: zipped(("report.json", b"[]")),
    "a key twice": lambda: zipped(("report.json", b'{"number": 1, ' + GOOD[1:])),
    "NaN": lambda: zipped(("report.json", GOOD.replace(b'"number": 1', b'"number": NaN'))),
    "infinity": lambda: zipped(("report.json", GOOD.replace(b'"number": 1', b'"number": 1e999'))),
    "a boolean": lambda: zipped(("report.json", GOOD.replace(b'"number": 1', b'"number": true'))),
    "a huge number": lambda: zipped(("report.json", GOOD.replace(b'"number": 1', b'"number": ' + b"9" * 5000))),
    "a number that is no float": lambda: zipped(("report.json", GREAT.replace(b"45600000000", b"9" * 400))),
    "a negative number": lambda: zipped(("report.json", GOOD.replace(b'"number": 1', b'"number": -1'))),
    "deep lists": lambda: zipped(("report.json", b"[" * 100_000 + b"]" * 100_000)),
    "deep objects": lambda: zipped(("report.json", b'{"a":' * 900 + b"1" + b"}" * 900)),
    "many lists": lambda: zipped(("report.json", b"[" + b"[]," * 1_000_000 + b"[]]")),
    "another kind": lambda: packed(reports.report(kind="Plan")),
    "another key": lambda: packed(reports.report(html="<script>")),
    "a key missing": lambda: packed({k: v for k, v in reports.report().items() if k != "plan"}),
    "a short commit": lambda: packed(reports.report(head="1f")),
    "a commit with a line end": lambda: packed(reports.report(head=HEAD + "\n")),
    "too many problems": lambda: packed(reports.report(problems=reports.PROBLEMS * 200)),
    "a text too long": lambda: packed(reports.report(notes=["x" * 5000])),
    "a list in a text's place": lambda: packed(reports.report(notes=[["x"]])),
    "an unknown operation": lambda: packed(reports.report(changes=[reports.change("rm -rf", "x", "y")])),
    "a reason that is Markdown": lambda: packed(reports.report(changes=[reports.change("train", "x", "[y](z)")])),
}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_an_artifact_that_is_no_report_is_refused(desk: Desk, name: str) -> None:
    message = desk.refused(ARTIFACTS[name](), "NotAReport")
    assert message.isprintable()
    assert len(message) < 500


def test_a_bomb_is_refused_before_it_goes_off(desk: Desk) -> None:
    assert len(bomb()) < 10_000
    desk.refused(bomb(), "TooLarge")


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
@settings(deadline=None)
def test_no_damage_makes_anything_but_a_refusal(changes: list[tuple[int, int]]) -> None:
    data = bytearray(packed(reports.GOOD))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        found = read_report(bytes(data))
    except Rejected:
        return
    assert found == reports.GOOD  # only what no reader looks at was damaged


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_no_bytes_make_anything_but_a_refusal(data: bytes) -> None:
    with pytest.raises(Rejected):
        read_report(data)


def test_a_hostile_report_that_holds_to_its_schema_harms_nobody(desk: Desk) -> None:
    """Every free text an attack: what is written mentions nobody, links nowhere, and has no other HTML."""
    attack = (
        "</code></td></table></details>\u202e<script>alert(1)</script> @octocat ![x](https://evil.example) #1\n::x"
    )
    evil = json.loads(json.dumps(reports.GOOD))
    evil |= {"number": desk.number, "notes": [attack] * 10, "environment": attack[:100], "edgetrain": attack}
    evil["plan"] = {"digest": attack, "summary": attack, "due": attack}
    for one in evil["changes"]:
        one["id"] = attack
    desk.write(packed(evil))
    text = "\n".join(desk.forge.texts(desk.number, "plan"))
    assert "<script" not in text and "\u202e" not in text and "](" not in text
    assert "@octocat" not in text and "https://" not in text
    assert text.count("<details>") == text.count("</details>")
