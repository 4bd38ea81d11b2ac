"""`edgetrain propose --data`: what changed at the site becomes a digest in a pull request, and nothing more."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from markdown_it import MarkdownIt

from edgetrain.core.digest import tree_digest
from edgetrain.core.errors import Transient, UsageError
from edgetrain.reconcile.data_watch import watch_data
from edgetrain.reconcile.validate import validate
from edgetrain.reconcile.verify import verify
from edgetrain.render.data_proposal import DataProposal, proposal_body, proposal_title
from edgetrain.render.data_watch import (
    DataWatch,
    Moved,
    Row,
    data_watch_json,
    data_watch_markdown,
    data_watch_text,
)
from tests import memory_forge
from tests.apply.site import SmallSite
from tests.cli.command import edgetrain
from tests.memory_forge import MemoryForge

GOLDEN = Path(__file__).parent / "golden"
BRANCH = "edgetrain/data/mean"
MANIFEST = "experiments/mean/experiment.yaml"
PRIVATE = "meyer-anna-1970.txt"
OLD, NEW = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
MOVED = (
    Moved("images", "hub-imaging:cxr/2026q3/", OLD, NEW, 13_500, 3_900_000_000, 12_000, 3_400_000_000),
    Moved("labels", "hub-imaging:labels.csv", NEW, OLD, 1, 250_000),
)


class Death(BaseException):
    """The end of a watch at one of its steps."""


def digest(text: str, name: str = "a.txt") -> str:
    """Of a folder that holds one file."""
    return tree_digest([(name, "sha256:" + hashlib.sha256(text.encode()).hexdigest())])


class Watched:
    """A small site with a forge; what is on main was trained."""

    def __init__(self, site: SmallSite, forge: MemoryForge | None) -> None:
        self.site, self._forge = site, forge

    @property
    def forge(self) -> MemoryForge:
        assert self._forge is not None
        return self._forge

    def fill(self, text: str, name: str = "a.txt") -> None:
        """Let the site's folder hold one file."""
        for file in (self.site.data / "table").iterdir():
            file.unlink()
        (self.site.data / "table" / name).write_text(text)

    def watch(self, *names: str, step: Callable[[str], None] = lambda name: None) -> Row:
        (row,) = watch_data(self.site.clone, names, None, lambda event: None, step).rows
        return row

    def on(self, branch: str, path: str = MANIFEST) -> str:
        """The file on a branch of the remote."""
        self.site._git("fetch", "--quiet", "--prune", "origin")
        return self.site._git("show", f"origin/{branch}:{path}")

    def open(self) -> list[int]:
        """Numbers of the open pull requests for data."""
        return [pull.number for pull in self.forge.open_pull_requests("edgetrain/data/")]

    def ever(self) -> list[int]:
        """Numbers of all that were ever opened for data."""
        return [pull.number for pull in self.forge.pulls.values() if pull.branch == BRANCH]


def declared(site: SmallSite, forge: MemoryForge | None, more: str = "") -> None:
    text = (site.clone / "edgetrain.yaml").read_text()
    site.write("edgetrain.yaml", text + (memory_forge.block(forge) if forge else "") + more)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Not trained yet."""
    site = SmallSite(tmp_path / "a site").make()
    forge = memory_forge.serve(monkeypatch, MemoryForge(remote=site.remote))
    declared(site, forge)
    site.edit(MANIFEST, "metadata: {name: mean}", 'metadata: {name: mean, owners: ["@example/ds", d@example.org]}')
    site.edit(MANIFEST, "digest: latest}", "digest: latest}  # the cohort of spring")
    site.push("Declare the forge")
    return Watched(site, forge)


@pytest.fixture
def watched(made: Watched) -> Watched:
    assert made.site.apply().good
    return made


# --- proposing ---------------------------------------------------------------------------------------


def test_what_no_run_has_seen_is_not_proposed(made: Watched) -> None:
    assert made.watch() == Row("mean", "unseen")
    assert made.site.branches() == ["main"]


def test_a_changed_digest_is_proposed_where_it_stands_and_nothing_else(watched: Watched) -> None:
    assert watched.watch() == Row("mean", "same")
    watched.fill("1 2 3 4 5\n", PRIVATE)
    row = watched.watch()
    (one,) = row.inputs
    (number,) = watched.open()
    assert (row.state, row.branch) == ("proposed", BRANCH)
    assert row.url == f"https://github.com/hosp/models/pull/{number}"
    assert (one.old, one.new) == (digest("1 2 3\n"), digest("1 2 3 4 5\n", PRIVATE))
    assert (one.files_before, one.bytes_before, one.files, one.bytes) == (1, 6, 1, 10)
    assert watched.on(BRANCH) == watched.on("main").replace("digest: latest}", f'digest: "{one.new}"}}')
    changed = watched.site._git("diff", "--name-only", f"origin/main...origin/{BRANCH}").split()
    assert changed == [MANIFEST]

    pull, details = watched.forge.pulls[number], watched.forge.details[number]
    assert (pull.title, pull.branch) == ("Train mean on the data that site here has now: table", BRANCH)
    assert (details.reviewers, details.labels) == ({"example/ds"}, {"edgetrain"})
    assert one.old in details.body
    assert one.new in details.body
    assert "trains 1 run" in details.body
    message = watched.site._git("log", "-1", "--format=%B", f"origin/{BRANCH}")
    assert f"Experiment: mean\nData: table {one.new}" in message


def test_names_of_files_go_nowhere(watched: Watched) -> None:
    watched.fill("1 2 3 4 5\n", PRIVATE)
    found = watch_data(watched.site.clone, [], None, lambda event: None)
    told = "".join(form(found) for form in (data_watch_text, data_watch_markdown, data_watch_json))
    watched.site._git("fetch", "--quiet", "origin")
    told += (
        watched.site._git("log", "-p", "--all")
        + "".join(details.body for details in watched.forge.details.values())
        + str(watched.forge.pulls)
    )
    assert PRIVATE not in told
    assert "meyer" not in told


def test_it_is_kept_up_to_date_and_made_once(watched: Watched) -> None:
    watched.fill("1 2 3 4\n")
    first = watched.watch()
    tip = watched.site._git("ls-remote", "origin", BRANCH)
    assert watched.watch() == first
    assert watched.site._git("ls-remote", "origin", BRANCH) == tip
    watched.fill("1 2 3 4 5\n")
    assert watched.watch().url == first.url
    assert digest("1 2 3 4 5\n") in watched.on(BRANCH)
    assert digest("1 2 3 4 5\n") in watched.forge.details[watched.open()[0]].body
    watched.site.sync()
    watched.site.edit(MANIFEST, "shift: 0.5", "shift: 0.4")
    watched.site.push("Shift less")
    assert watched.watch().url == first.url
    assert "shift: 0.4" in watched.on(BRANCH)
    assert watched.open() == watched.ever()


def test_it_is_closed_when_the_data_is_as_main_says_again(watched: Watched) -> None:
    watched.fill("1 2 3 4\n")
    watched.watch()
    watched.fill("1 2 3\n")
    assert watched.watch() == Row("mean", "withdrawn")
    assert watched.open() == []
    assert BRANCH not in watched.site.branches()
    assert watched.watch() == Row("mean", "same")
    watched.fill("1 2 3 4\n")
    assert watched.watch().state == "proposed", "closed by us, not by people"


def test_what_people_closed_stays_closed_until_something_else_changes_or_somebody_asks(watched: Watched) -> None:
    watched.fill("1 2 3 4\n")
    watched.watch()
    watched.forge.shut(watched.open()[0])
    row = watched.watch()
    assert (row.state, watched.open()) == ("left", [])
    assert "edgetrain propose --data mean" in row.fix
    watched.site._git("push", "--quiet", "origin", "--delete", BRANCH)
    assert (watched.watch().state, watched.open()) == ("left", [])
    assert watched.watch("mean").state == "proposed"
    assert len(watched.open()) == 1
    watched.forge.shut(watched.open()[0])
    assert watched.watch().state == "left"
    watched.fill("1 2 3 4 5\n")
    assert watched.watch().state == "proposed"
    assert len(watched.open()) == 1


def test_the_proposal_of_a_retired_experiment_is_closed(watched: Watched) -> None:
    watched.fill("1 2 3 4\n")
    watched.watch()
    watched.site.sync()
    watched.site.edit(MANIFEST, "{name: mean, owners", "{name: mean, retired: true, owners")
    watched.site.push("Retire it")
    assert watched.watch() == Row("mean", "withdrawn")
    assert watched.open() == []
    assert watch_data(watched.site.clone, [], None, lambda event: None).rows == ()


STEPS = ("fetch", "commit", "push", "pull-request", "claim")


@pytest.mark.parametrize("at", STEPS)
def test_killed_anywhere_the_next_one_brings_it_to_the_same_end(watched: Watched, at: str) -> None:
    def step(name: str) -> None:
        if name == at:
            raise Death(name)

    watched.fill("1 2 3 4\n")
    with pytest.raises(Death):
        watched.watch(step=step)
    assert watched.watch().state == "proposed"
    assert watched.watch().state == "proposed"
    assert watched.open() == watched.ever()
    watched.forge.shut(watched.open()[0])
    assert watched.watch().state == "left"


@pytest.mark.parametrize("at", ["close", "push", "release-claim"])
def test_killed_while_closing_it_is_closed_by_the_next_one(watched: Watched, at: str) -> None:
    reached = []

    def step(name: str) -> None:
        reached.append(name)
        if name == at:
            raise Death(name)

    watched.fill("1 2 3 4\n")
    watched.watch()
    watched.fill("1 2 3\n")
    with pytest.raises(Death):
        watched.watch(step=step)
    watched.watch()
    assert (watched.open(), watched.site.branches()) == ([], ["edgetrain/proposal/mean-1", "main"])
    watched.fill("1 2 3 4\n")
    assert watched.watch().state == "proposed"


# --- what goes wrong ---------------------------------------------------------------------------------


def test_a_forge_that_is_away_is_told_and_asked_again(watched: Watched) -> None:
    watched.fill("1 2 3 4\n")
    watched.forge.fail("propose", Transient("the forge does not answer"))
    row = watched.watch()
    assert (row.state, row.message) == ("failed", "the forge does not answer")
    assert watched.watch().state == "proposed"


def test_data_that_is_gone_or_empty_proposes_nothing(watched: Watched) -> None:
    (watched.site.data / "table" / "a.txt").unlink()
    row = watched.watch()
    assert (row.state, row.reason) == ("failed", "DataEmpty")
    (watched.site.data / "table").rmdir()
    row = watched.watch()
    assert (row.state, row.reason) == ("failed", "DataMissing")
    assert watched.open() == []
    assert BRANCH not in watched.site.branches()


def test_a_manifest_with_anchors_is_left_to_people(watched: Watched) -> None:
    watched.site.sync()
    watched.site.edit(MANIFEST, "    table: {type", "    table: &t {type")
    watched.site.edit(MANIFEST, "    shift: 0.5\n", "    shift: 0.5\n    again: *t\n")
    watched.site.push("Read it twice")
    watched.fill("1 2 3 4\n")
    row = watched.watch()
    assert (row.state, row.reason) == ("failed", "NotEditable")
    assert digest("1 2 3 4\n") in row.fix


def test_experiments_that_are_not_there(watched: Watched) -> None:
    with pytest.raises(UsageError, match='did you mean "mean"'):
        watched.watch("maen")


# --- merging -----------------------------------------------------------------------------------------


def signed(site: SmallSite, tmp_path: Path) -> None:
    key = tmp_path / "machine-key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text()
    site.write(".github/allowed_signers", f'edgetrain@localhost namespaces="git" {public}')
    signing = f"  secrets: {{machine-key: {{source: {{file: {json.dumps(str(key))}}}}}}}\n"
    signing += "  machine: {name: edgetrain, email: edgetrain@localhost, signingKey: {secret: machine-key}}\n"
    declared(site, None, signing)
    site.push("Sign records")


@pytest.mark.needs("git>=2.34", "ssh-keygen")
@pytest.mark.parametrize("method", ["merge", "squash"])
def test_people_merge_what_the_machine_signed(
    made: Watched, tmp_path: Path, method: Literal["merge", "squash"]
) -> None:
    signed(made.site, tmp_path)
    assert made.site.apply().good
    made.fill("1 2 3 4\n")
    made.watch()
    made.site._git("fetch", "--quiet", "origin")
    shown = made.site._git("log", "-1", "--format=%G? %ce", "--show-signature", f"origin/{BRANCH}")
    assert "edgetrain@localhost" in shown

    made.site._git("checkout", "--quiet", f"origin/{BRANCH}")
    assert validate(made.site.clone, require_history=True) == [], "as the pull request is checked"
    (number,) = made.open()
    made.forge.review(number, "ravi")
    made.forge.merge(number, by="grace", method=method)
    made.site.sync()
    assert validate(made.site.clone, require_history=True) == []

    result = made.site.apply()
    assert result.good
    assert [one.outcome for one in result.results if one.outcome], "it trains on the new data"
    made.site.sync()
    runs = [record for record in made.site.records().values() if record["kind"] == "RunRecord"]
    assert {run["inputs"]["table"]["digest"] for run in runs} == {digest("1 2 3\n"), digest("1 2 3 4\n")}
    assert validate(made.site.clone, require_history=True) == []
    assert verify(made.site.clone, None).holds
    newest = next(run for run in runs if run["inputs"]["table"]["digest"] == digest("1 2 3 4\n"))
    kept = newest["provenance"]["review"]
    assert (kept["pullRequest"], kept["proposer"]["login"]) == (number, "edgetrain-app[bot]")
    assert [(one["login"], one["counts"]) for one in kept["approvals"]] == [("ravi", True)]

    assert made.watch().state == "withdrawn", "the merged branch is tidied away"
    assert made.watch() == Row("mean", "same")


def test_where_the_manifest_says_train_it_is_committed_and_trained(made: Watched) -> None:
    made.site.edit(MANIFEST, "digest: latest}", "digest: latest, onChange: train}")
    made.site.push("Retrain by itself")
    assert made.site.apply().good
    made.fill("1 2 3 4\n")
    assert made.watch().state == "committed"
    assert (made.ever(), made.site.branches()) == ([], ["edgetrain/proposal/mean-1", "main"])
    assert f'digest: "{digest("1 2 3 4" + chr(10))}", onChange: train}}  # the cohort of spring' in made.on("main")
    result = made.site.apply()
    assert [one.outcome for one in result.results if one.outcome]
    assert made.watch() == Row("mean", "same")
    made.site.sync()
    assert validate(made.site.clone, require_history=True) == []


# --- without a forge ---------------------------------------------------------------------------------


def test_without_a_forge_the_branch_is_the_proposal(tmp_path: Path) -> None:
    site = SmallSite(tmp_path / "a site").make()
    assert site.apply().good
    alone = Watched(site, None)
    alone.fill("1 2 3 4\n")
    row = alone.watch()
    assert (row.state, row.branch, row.url) == ("proposed", BRANCH, "")
    assert digest("1 2 3 4\n") in alone.on(BRANCH)
    site._git("push", "--quiet", "origin", "--delete", BRANCH)
    assert alone.watch().state == "left"
    assert alone.watch("mean").state == "proposed"
    alone.fill("1 2 3\n")
    assert alone.watch().state == "withdrawn"
    assert BRANCH not in site.branches()


def test_the_command(tmp_path: Path) -> None:
    site = SmallSite(tmp_path / "a site").make()
    assert site.apply().good
    Watched(site, None).fill("1 2 3 4\n", PRIVATE)
    ended = edgetrain("propose", "--data", "--format", "json", cwd=site.clone)
    assert ended.code == 0, ended.err
    assert [row["state"] for row in ended.json["rows"]] == ["proposed"]
    assert ended.json["good"] is True
    assert "meyer" not in ended.out + ended.err
    ended = edgetrain("propose", "--data", "mean", "--site", "here", "--format", "markdown", cwd=site.clone)
    assert (ended.code, ended.out.splitlines()[0]) == (0, "### edgetrain data watch: site here: 1 proposed")
    (site.data / "table" / PRIVATE).unlink()
    assert edgetrain("propose", "--data", cwd=site.clone).code == 3
    ended = edgetrain("propose", "nothing", cwd=site.clone, EDGETRAIN_SITE="here")
    assert "no run 'nothing'" in ended.err, "the runner's own site is no mistake"
    for wrong in ((), ("a", "b"), ("a", "--site", "here"), ("a", "--format", "markdown"), ("--data", "nobody")):
        ended = edgetrain("propose", *wrong, cwd=site.clone)
        assert ended.code == 2, wrong
        assert ended.err


# --- words -------------------------------------------------------------------------------------------


def test_the_pull_request_is_readable(golden: Callable[[Path, str], None]) -> None:
    found = DataProposal(
        "cxr-densenet", "experiments/cxr-densenet/experiment.yaml", "cxr-triage", "st-anna", 3, MOVED
    )
    golden(GOLDEN / "data-proposal.md", f"# {proposal_title(found)}\n\n{proposal_body(found)}")


def test_what_is_told_is_readable(golden: Callable[[Path, str], None]) -> None:
    found = DataWatch(
        "st-anna",
        "1" * 40,
        (
            Row("cxr-densenet", "proposed", MOVED, BRANCH, "https://github.com/hosp/models/pull/7"),
            Row("digits", "same"),
            Row("lost", "failed", reason="DataEmpty", message="store:x/ holds no file", fix="mount the disk"),
            Row("other", "left", MOVED[:1], fix="to propose it again: edgetrain propose --data other"),
        ),
    )
    golden(GOLDEN / "data-watch.txt", data_watch_text(found))
    golden(GOLDEN / "data-watch.md", data_watch_markdown(found))


def test_hostile_paths_stay_text() -> None:
    evil = "x](https://evil.example) @someone <img src=x> | y\n# z"
    found = DataProposal("mean", "p", "m", "here", 0, (Moved("a", evil, OLD, NEW, 1, 1),))
    body = proposal_body(found)
    html = MarkdownIt("commonmark").enable("table").render(body)
    assert "<img" not in html
    assert "<a " not in html
    assert "trains nothing" in body
    assert html.count("<tr>") == 3
