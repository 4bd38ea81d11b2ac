"""`edgetrain github check` and `comment` as the workflows call them: annotations, files, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgetrain.cli.app import app
from edgetrain.core.plan import Plan
from tests.cli.command import Ended, edgetrain
from tests.cli.test_app import imported_by
from tests.memory_forge import MemoryForge, serve
from tests.outputs import sound
from tests.reconcile.proposals import Hub, Proposal, hub
from tests.reconcile.test_pull_request_comment import packed

EXPERIMENT = "experiments/scan/experiment.yaml"
_COMMAND = re.compile(r"::(error|warning|notice)(?: ((?:[a-z]+=[^,:\r\n]+)(?:,[a-z]+=[^,:\r\n]+)*))?::([^\r\n]*)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    made = hub(tmp_path_factory.mktemp("site"))
    made.record()
    return made


def asked(proposal: Proposal, *more: str | Path) -> tuple[str | Path, ...]:
    which = ("--pull-request", "7", "--head", proposal.head, "--base", proposal.base)
    return ("-C", proposal.root, "github", "check", *which, *more)


def check(proposal: Proposal, cwd: Path, *more: str | Path) -> Ended:
    return edgetrain(*asked(proposal, *more), cwd=cwd)


def test_a_good_one_says_nothing_and_leaves_its_report_and_plan(site: Hub, tmp_path: Path) -> None:
    proposal = site.propose(site.edit(EXPERIMENT, "lr: 0.1", "lr: 0.2"))
    out, plan = tmp_path / "report.json", tmp_path / "plan.json"
    ended = check(proposal, tmp_path, "--out", out, "--plan-out", plan)
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    report = json.loads(out.read_text())
    assert (report["kind"], report["number"], report["head"]) == ("PullRequestReport", 7, proposal.head)
    assert Plan.from_json(json.loads(plan.read_text())).digest == report["plan"]["digest"]


def test_a_bad_one_is_annotated_on_its_lines_and_fails(site: Hub, tmp_path: Path) -> None:
    edit = site.edit(EXPERIMENT, "metrics: [auroc]", "metric: [auroc]")
    edit |= site.edit("edgetrain.yaml", "absolute: 3", "absolute: 9")
    ended = check(site.propose(edit), tmp_path, "--out", tmp_path / "report.json")
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert all(_COMMAND.fullmatch(line) for line in lines)
    assert any(line.startswith(f"::error file={EXPERIMENT},line=13,col=3,title=M204 ") for line in lines)
    warning = next(line for line in lines if line.startswith("::warning file=edgetrain.yaml,line=1,title=for the"))
    assert warning.endswith("%0Aspec.limits.deletions.absolute: 3 → 9")
    assert json.loads((tmp_path / "report.json").read_text())["problems"]


def test_a_conflict_fails_with_an_annotation(tmp_path: Path) -> None:
    made = hub(tmp_path)
    start = made.git("rev-parse", "HEAD")
    made.commit(made.edit(EXPERIMENT, "lr: 0.1", "lr: 0.7"))
    made.git("checkout", "--quiet", start)
    proposal = made.propose(made.edit(EXPERIMENT, "lr: 0.1", "lr: 0.2"), merge=False, onto=start)
    ended = check(proposal, tmp_path)
    assert ended.code == 1
    assert "::error title=It conflicts with its base branch::" in ended.out


def test_names_and_values_make_no_workflow_command(site: Hub, tmp_path: Path) -> None:
    name = "models/x%0A::error file=a,line=1::b\n::set-output name=a::b"
    text = 'apiVersion: edgetrain/v1\nkind: "::add-mask::x%0A::error::y"\nmetadata: {name: "::stop-commands::z"}\n'
    key = "compute/a,b:c.yaml"
    ended = check(site.propose({name: "x\n", key: text, "compute/::warning::.yml": text}), tmp_path)
    assert ended.code == 1
    for line in ended.out.splitlines():
        found = _COMMAND.fullmatch(line)
        assert found, line
        keys = [part.partition("=")[0] for part in found[2].split(",")]
        assert set(keys) <= {"file", "line", "col", "title"} and len(keys) == len(set(keys))


def test_as_json_and_as_the_comment(site: Hub, tmp_path: Path) -> None:
    proposal = site.propose(site.edit(EXPERIMENT, "lr: 0.1", "lr: 0.2"))
    assert check(proposal, tmp_path, "--format", "json").json["number"] == 7
    text = check(proposal, tmp_path, "--format", "markdown").out
    assert text.startswith("### edgetrain: 1 to train, ") and "#### What it reads" in text


def test_what_can_not_be_checked_ends_with_3(site: Hub, tmp_path: Path) -> None:
    proposal = site.propose({"README.md": "words\n"})
    proposal.base = "0" * 40
    ended = check(proposal, tmp_path)
    assert ended.code == 3
    assert "::error title=BaseMissing::" in ended.out
    proposal.base = "main"
    assert check(proposal, tmp_path).code == 2


def test_it_imports_no_client_of_anything(site: Hub, tmp_path: Path) -> None:
    proposal = site.propose({"README.md": "words\n"})
    imported = imported_by(*map(str, asked(proposal)), cwd=tmp_path)
    assert "edgetrain" in imported
    assert not imported & {"httpx", "jwt", "cryptography", "mlflow", "azure", "asyncssh", "sqlalchemy"}


def test_the_comment_is_written_from_the_report(site: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proposal = site.propose(site.edit(EXPERIMENT, "lr: 0.1", "lr: 0.2"))
    ended = check(proposal, tmp_path, "--format", "json")
    forge = serve(monkeypatch, MemoryForge("hosp/models"))
    number = forge.open("change", head=proposal.head)
    forge.files[number] = {EXPERIMENT}
    run = forge.run(head=proposal.head)
    forge.upload(run, "edgetrain-report", packed({**ended.json, "number": number}))
    verb = ["-C", str(site.root), "github", "comment", "--run", str(run)]
    done = CliRunner().invoke(app, [*verb, "--format", "json"])
    assert sound("github-comment", done.output)["number"] == number
    assert CliRunner().invoke(app, verb).output == f"the comment is on {forge.pulls[number].url}\n"
    (text,) = forge.texts(number, "plan")
    assert text.startswith("### edgetrain: 1 to train, ")
