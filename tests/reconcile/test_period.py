"""`edgetrain audit` of a span of time, and of what data, a commit or a package touches."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgetrain.core.digest import digest_bytes, digest_of, parse_canonical
from edgetrain.core.errors import UsageError
from edgetrain.core.lock import pins, same_version
from edgetrain.core.record import serialise
from edgetrain.reconcile.hands import hand_doubts
from edgetrain.reconcile.period import day, period, touched
from edgetrain.reconcile.touched import by_commit, by_data, by_package
from edgetrain.render.hands import Account, Approval, Doubt, Hand, Review
from edgetrain.render.period import (
    COLUMNS,
    Egress,
    Event,
    Period,
    cell,
    period_csv,
    period_json,
    period_markdown,
    period_text,
    totals,
)
from edgetrain.render.period_html import period_html
from edgetrain.render.touched import touched_json, touched_markdown, touched_text
from tests.apply.site import SmallSite
from tests.cli.command import edgetrain
from tests.outputs import sound

GOLDEN = Path(__file__).parent / "golden"
DANA, RAVI = "Dana Scientist <dana@example.org>", "Ravi Reviewer <ravi@example.org>"
WAIVER = {
    "code": "E613",
    "path": "train.py",
    "expires": "2026-12-31",
    "owner": "@hosp/ds",
    "reason": "Counts only.",
}


def hand(number: int, approver: str = RAVI) -> Hand:
    return Hand(DANA, (approver,) if approver else (), f"{number:040x}", f"#{number}")


def reviewed(number: int, approver: Account) -> Hand:
    dana = Account(101, "dana")
    own = approver == dana
    one = Approval(
        approver.id, approver.login, "2026-07-02T08:00:00Z", "h" * 40, not own, "OwnPullRequest" if own else ""
    )
    review = Review("github.com", "hosp/models", number, "h" * 40, dana, dana, (one,), {"validate": "success"})
    return Hand(DANA, (approver.login,), f"{number:040x}", f"#{number}", review=review)


def told(what: str, found: Hand) -> tuple[Doubt, ...]:
    return tuple(hand_doubts(what, found))


def quarter() -> Period:
    """One of everything, with words that a page or a spreadsheet might take for its own."""
    seen, own = reviewed(7, Account(102, "ravi")), reviewed(8, Account(101, "dana"))
    left = Egress("st-anna", "radiology-gpu-1", "enforced", "site", 2, 4_100_000)
    bad = Egress("st-anna", "radiology-gpu-1", "advisory", "egress", 0, 0, (WAIVER,))
    run = "cxr-densenet-0123456789ab-1"
    doubts = (Doubt("Rejected", "the run ended: EgressRefused"), Doubt("Waived", "1 egress waiver(s) were used"))
    events = (
        Event("2026-07-01T09:00:00Z", "merged", "Merge pull request #7 from hosp/cxr", "2 file(s)", "7" * 40,
              hand=seen, touches=("experiments/cxr-densenet",), doubts=told("merge", seen)),
        Event("2026-07-02T09:00:00Z", "merged", "<script>alert('x')</script> | `=1+1`", "1 file(s)", "8" * 40,
              hand=own, touches=("compute/radiology-gpu-1.yaml", "edgetrain.yaml"), doubts=told("merge", own)),
        Event("2026-07-02T10:00:00Z", "pushed", '=HYPERLINK("http://evil.example";"look")', "1 file(s)", "9" * 40,
              hand=hand(9, ""), touches=("models/cxr-triage",), doubts=told("merge", hand(9, ""))),
        Event("2026-07-03T09:00:00Z", "run", run, "GatesPassed: 2 gate(s) passed", "a" * 40,
              "experiments/cxr-densenet/runs/0123456789ab-1.json", "candidate", seen, egress=left),
        Event("2026-07-03T10:00:00Z", "run", "cxr-densenet-ba9876543210-1", "EgressRefused: E701", "b" * 40,
              "experiments/cxr-densenet/runs/ba9876543210-1.json", "rejected", own, egress=bad, doubts=doubts),
        Event("2026-07-03T11:00:00Z", "proposed", "cxr-triage@3", f"from {run}", "c" * 40),
        Event("2026-07-04T09:00:00Z", "released", "cxr-triage@3", "cxr-triage@sha256:9f", "d" * 40, hand=hand(10)),
        Event("2026-07-04T09:01:00Z", "channel", "cxr-triage@3", "production: 2 to 3", "e" * 40, hand=hand(10)),
        Event("2026-07-05T09:00:00Z", "withdrawn", "cxr-triage@2", "wrong labels", "f" * 40, hand=hand(11)),
    )  # fmt: skip
    return Period("2026-07-01", "2026-10-01", "1" * 40, "main", events, ("This clone is shallow: <b>old</b>.",))


def test_the_report_in_every_form(golden: Callable[[Path, str], None]) -> None:
    found = quarter()
    golden(GOLDEN / "audit-period.txt", period_text(found))
    golden(GOLDEN / "audit-period.md", period_markdown(found))
    golden(GOLDEN / "audit-period.json", period_json(found))
    sound("audit", period_json(found))
    golden(GOLDEN / "audit-period.html", period_html(found))
    golden(GOLDEN / "audit-period.csv", period_csv(found).replace("\r\n", "\n"))


def test_the_sums_count_a_merge_once() -> None:
    sums = totals(quarter())
    assert (sums["merges"], sums["selfApproved"], sums["withoutApproval"]) == (3, 1, 1)
    assert sums["outcomes"] == {"candidate": 1, "rejected": 1}
    assert (sums["releases"], sums["channelMoves"], sums["withdrawals"], sums["waivers"]) == (1, 1, 1, 1)
    assert (sums["egress"]["files"], sums["egress"]["bytes"], sums["egress"]["logs"]) == (2, 4_100_000, 1)
    assert totals(Period("2026-07-01", "", "1" * 40, "main", ()))["egress"]["targets"] == {}


class Page(HTMLParser):
    """What a page holds, and what it would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_is_whole_by_itself_and_runs_nothing() -> None:
    page, text = Page(), period_html(quarter())
    page.feed(text)
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "object", "form", "b", "base"}
    assert page.attributes <= {"lang", "charset", "http-equiv", "content", "name", "class", "id", "href", "scope"}
    assert "<script>alert('x')</script> | `=1+1`" in "".join(page.words)
    assert set(re.findall(r'href="([^"]*)"', text)) == {f"#s{at}" for at in range(10)}
    assert "url(" not in text
    assert "default-src 'none'" in text


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", " =", "＝", "\u00a0@"])
def test_no_cell_of_the_csv_is_a_formula(start: str) -> None:
    hostile = f'{start}cmd|"/c calc"!A1'
    event = Event(
        "2026-07-01T00:00:00Z", "merged", hostile, hostile, hostile, touches=(hostile,), hand=Hand(hostile)
    )
    head, row = csv.reader(io.StringIO(period_csv(Period("", "", "", "main", (event,)))))
    assert head == list(COLUMNS)
    assert len(row) == len(head)
    assert not [text for text in row if text.strip(" \u00a0")[:1] in tuple("=+-@\t\r＝") and text.strip()]
    assert cell('look;=1+1 "@x') == """look;'=1+1 "'@x"""
    assert cell("2026-07-01T00:00:00Z") == "2026-07-01T00:00:00Z"


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-7-1", "20260701", "2026-W27-1", "2026-02-30", "", "2026-07-01T00:00"]
)
def test_what_is_no_date_is_usage(text: str) -> None:
    with pytest.raises(UsageError):
        day("--since", text)


def test_a_change_is_told_by_what_it_is_about() -> None:
    paths = [
        "experiments/a/train.py",
        "experiments/a/experiment.yaml",
        "models/m/versions/1.yaml",
        "edgetrain.yaml",
    ]
    assert touched([*paths, ".github/workflows/apply.yml"]) == (
        ".github/workflows",
        "edgetrain.yaml",
        "experiments/a",
        "models/m",
    )
    assert touched([f"docs{at}/x.md" for at in range(20)])[-1] == "and 8 more"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> SmallSite:
    """A released version in production, and a later run that is not better."""
    made = SmallSite(tmp_path_factory.mktemp("period") / "a site").make()
    made.release()
    made.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.8")
    made.push("Shift more (#12)")
    made.apply()
    made.sync()
    return made


def test_a_site_from_its_first_day_on(site: SmallSite) -> None:
    found = period(site.clone, "2000-01-01", None)
    kinds = [event.kind for event in found.events]
    assert kinds[:3] == ["pushed", "run", "proposed"]
    assert sorted(kinds) == [
        "channel",
        "merged",
        "merged",
        "proposed",
        "pushed",
        "pushed",
        "released",
        "run",
        "run",
    ]
    last = found.events[-1]
    assert (last.outcome, last.what[:11], last.record[:22]) == (
        "not_better",
        "GatesFailed",
        "experiments/mean/runs/",
    )
    squashed = next(event for event in found.events if event.subject == "Shift more (#12)")
    assert squashed.hand is not None
    assert (squashed.kind, squashed.hand.pull_request) == ("merged", "#12")
    assert [doubt.name for doubt in squashed.doubts] == ["ApproverUnknown"]
    assert totals(found)["egress"]["files"] == 2
    day_of = found.events[0].time[:10]
    assert period(site.clone, None, day_of).events == ()
    assert len(period(site.clone, day_of, None).events) == len(found.events)


def test_the_verb_and_its_forms(site: SmallSite) -> None:
    heads = {"text": "Audit of main", "markdown": "# Audit of main", "html": "<!doctype html>", "csv": "time,kind"}
    for form, head in heads.items():
        ended = edgetrain("audit", "--since", "2020-01-01", "--format", form, cwd=site.clone)
        assert (ended.code, ended.out[: len(head)]) == (0, head)
    ended = edgetrain("audit", "--since", "2020-01-01", "--until", "2020-02-01", "--format", "json", cwd=site.clone)
    assert (ended.json["kind"], ended.json["events"]) == ("AuditReport", [])
    for wrong in (
        (),
        ("mean@1", "--since", "2020-01-01"),
        ("--since", "2020-02-01", "--until", "2020-02-01"),
        ("mean@1", "--format", "html"),
        ("--data", "xyz"),
        ("--commit", "HEAD"),
        ("--package", "a b"),
    ):
        assert edgetrain("audit", *wrong, cwd=site.clone).code == 2


def test_what_data_and_commits_touch(site: SmallSite) -> None:
    run = next(record for record in site.records().values() if record["kind"] == "RunRecord")
    digest = run["inputs"]["table"]["digest"]  # type: ignore[index]
    found = by_data(site.clone, digest[:20])
    assert [(one.version, one.channels, one.released, one.how) for one in found.versions] == [
        ("mean@1", ("production",), True, ("trained on it as table",))
    ]
    assert [one.outcome for one in found.runs] == ["not_better"]
    assert f"data {digest}: 1 version, in 1 channel; 1 run besides" in touched_text(found)
    assert by_data(site.clone, "0" * 64).versions == ()

    first = site._git("rev-list", "--max-parents=0", "HEAD").strip()
    found = by_commit(site.clone, first[:9])
    assert found.question == f"commit {first}"
    assert [one.version for one in found.versions] == ["mean@1"]
    assert "trained from it" in found.versions[0].how
    assert "its experiment came by it" in found.versions[0].how
    shifted = site._git("log", "-1", "--format=%H", "--grep=Shift more").strip()
    found = by_commit(site.clone, shifted)
    assert (found.versions, len(found.runs)) == ((), 1)
    moved = site._git("log", "-1", "--format=%H", "--grep=Production is 1").strip()
    assert by_commit(site.clone, moved).versions[0].how == ("production moved by it",)
    assert by_commit(site.clone, "0" * 40).untold != ()


def test_what_a_package_touches(site: SmallSite, tmp_path: Path) -> None:
    """By the lock at the run's commit, whose digest must be the recorded one."""
    site._git("clone", "--quiet", str(site.remote), str(tmp_path / "clone"))
    copy = SmallSite(tmp_path)
    lock = (
        "numpy==1.26.4 ; python_version < '4' \\\n    --hash=sha256:00\nnumpy==3.0 ; python_version >= '4'\n"
        "Scikit_Learn[x]==1.5.0 ; python_version > '3'\n# torch==2.0\n"
    )
    copy.write("experiments/mean/requirements.lock", lock)
    copy.edit(
        "experiments/mean/experiment.yaml",
        "  seed: 1",
        "  environment: {requirements: requirements.lock}\n  seed: 1",
    )
    copy._git("add", "--all")
    copy._git("commit", "--quiet", "-m", "Lock")
    old = next(iter(sorted(copy.clone.glob("experiments/mean/runs/*-1.json"))))
    data = parse_canonical(old.read_bytes())
    for digest in (digest_bytes(lock.encode()), "sha256:" + "1" * 64):
        of = {**data["identityOf"], "requirements": digest}
        more = {"identityOf": of, "identity": digest_of(of), "commit": copy._git("rev-parse", "HEAD").strip()}
        environment = {**data["environment"], "requirements": digest}
        name = more["identity"].removeprefix("sha256:")[:12]
        file = copy.clone / f"experiments/mean/runs/{name}-1.json"
        file.write_bytes(serialise({**data, **more, "environment": environment}))
    copy._git("add", "--all")
    copy._git("commit", "--quiet", "-m", "Record")
    copy._git("remote", "remove", "origin")
    found = by_package(copy.clone, "scikit-learn==1.5")
    assert [one.how for one in found.runs] == [("trained with scikit-learn==1.5.0",)]
    assert found.untold == (
        "the locks of 1 run(s) can't be read here, or are not those of their records",
        "what stands in files with problems (experiments/mean/experiment.yaml): edgetrain validate",
    )
    assert [one.how for one in by_package(copy.clone, "NumPy").runs] == [("trained with numpy==1.26.4",)]
    assert len(by_package(copy.clone, "NumPy == 1.26.4").runs) == 1
    assert by_package(copy.clone, "torch").runs == ()
    assert by_package(copy.clone, "numpy==1.26.5").runs == ()
    assert "What can't be told" in touched_text(found) + touched_markdown(found)
    assert sound("audit", touched_json(found))["kind"] == "Touched"


def test_pins_of_a_lock() -> None:
    assert list(pins("a==1\nB.c[d]===2.0+cpu;x\n-r other\ne @ https://x\nf>=1\n")) == [
        ("a", "1"),
        ("b-c", "2.0+cpu"),
    ]
    marked = """
a==1 ; python_version < '3.12' \\
    --hash=sha256:00
a==2 ; python_full_version >= '3.12' \\
    --hash=sha256:00
b==1 ; sys_platform == 'win32'
b==2 ; sys_platform != 'win32' and platform_machine == 'x86_64'  # by hand
c==1 ; python_full_version < '3.11.4'
c==2 ; python_full_version >= '3.11.4'
d==1 ; platform_release == '5'
d==2 ; no marker
e==1
"""
    told = [("c", "1"), ("c", "2"), ("d", "1"), ("d", "2"), ("e", "1")]
    assert list(pins(marked, "3.11", "linux/amd64")) == [("a", "1"), ("b", "2"), *told]
    assert list(pins(marked, "3.12", "linux/arm64")) == [("a", "2"), *told[1:]]
    assert ("c", "2") not in pins(marked, "3.11.3", "linux/amd64")
    assert len(list(pins(marked, None, "linux/amd64"))) == len(list(pins(marked))) == 9
    assert same_version("1.2", "1.2.0")
    assert not same_version("1.2", "1.20")
    assert not same_version("1.2+cpu", "1.2")
