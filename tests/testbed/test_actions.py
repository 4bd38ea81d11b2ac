"""The driver of the workflows: what wakes them, in which order they run, and what is left of a killed one."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.actions import expressions
from testbed.actions.driver import Actions
from testbed.actions.expressions import NotUnderstood
from testbed.actions.groups import Groups
from testbed.actions.workflow import Workflow, matches
from testbed.github import GithubServer
from testbed.part import until

REPOSITORY = "hosp/models"
CONTEXTS = {
    "github": {"event": {"number": 7}, "ref_name": "main"},
    "inputs": {},
    "vars": {"RUNNER": '["a", "b"]'},
    "needs": {"due": {"outputs": {"train": "true"}}},
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("github.event.number", 7),
        ("inputs.site || vars.SITE", None),
        ("inputs.site || 'it''s here'", "it's here"),
        ("fromJSON(inputs.runner || vars.RUNNER)", ["a", "b"]),
        ("needs.due.outputs.train == 'true'", True),
        ("needs.due.outputs.train == 'TRUE' && github.ref_name != 'other'", True),
        ("inputs.none == ''", True),
        ("(false || true) && 'x'", "x"),
    ],
)
def test_expressions(expression: str, value: object) -> None:
    assert expressions.evaluate(expression, CONTEXTS) == value


@pytest.mark.parametrize("expression", ["always()", "secrets.X", "github.ref[0]", "1 < 2", "'open", "", "(true"])
def test_what_is_not_known_is_not_guessed(expression: str) -> None:
    with pytest.raises(NotUnderstood):
        expressions.evaluate(expression, CONTEXTS)


@pytest.mark.parametrize(
    ("patterns", "path", "found"),
    [
        (["a/*/c"], "a/b/c", True),
        (["a/*/c"], "a/b/b/c", False),
        (["a/**"], "a/b/c", True),
        (["**/c"], "c", True),
        (["a/**", "!a/b/**"], "a/b/c", False),
        (["*.json"], "a/b.json", False),
    ],
)
def test_filters(patterns: list[str], path: str, found: bool) -> None:
    assert matches(patterns, path) is found


@pytest.mark.parametrize(
    ("on", "event", "payload", "changed", "woken"),
    [
        ("{push: {branches: [main]}}", "push", {"ref": "refs/heads/main", "deleted": False}, ["a"], True),
        ("{push: {branches: [main]}}", "push", {"ref": "refs/heads/x", "deleted": False}, ["a"], False),
        ("{push: {paths-ignore: ['r/**']}}", "push", {"ref": "refs/heads/x", "deleted": False}, ["r/a"], False),
        ("{push: {paths-ignore: ['r/**']}}", "push", {"ref": "refs/heads/x", "deleted": False}, ["r/a", "b"], True),
        ("push", "push", {"ref": "refs/tags/x", "deleted": False}, ["a"], False),
        ("[push, pull_request]", "workflow_dispatch", {}, [], False),
        (
            "pull_request",
            "pull_request",
            {"action": "labeled", "pull_request": {"base": {"ref": "main"}}},
            [],
            False,
        ),
        ("pull_request", "pull_request", {"action": "opened", "pull_request": {"base": {"ref": "main"}}}, [], True),
    ],
)
def test_what_wakes_a_workflow(
    on: str, event: str, payload: dict[str, Any], changed: list[str], woken: bool
) -> None:
    workflow = Workflow("a.yml", f"on: {on}\njobs: {{}}\n")
    assert workflow.woken(event, payload, changed) is woken


def test_of_those_that_wait_the_newest_comes_next() -> None:
    groups, order = Groups(), []
    first = groups.enter("g", "first", lambda: None, False)
    assert first is not None

    def wait(name: str) -> None:
        place = groups.enter("g", name, lambda: None, False)
        order.append((name, place is not None))
        if place is not None:
            groups.leave("g", place)

    older = threading.Thread(target=wait, args=("older",))
    older.start()
    until(lambda: groups.waiting("g") == "older", "the older one to wait")
    newer = threading.Thread(target=wait, args=("newer",))
    newer.start()
    older.join()
    groups.leave("g", first)
    newer.join()
    assert order == [("older", False), ("newer", True)]


FIRST = """\
name: first
on:
  push: {branches: [main]}
  workflow_dispatch: {inputs: {word: {type: string}}}
permissions: {}
jobs:
  one:
    runs-on: [self-hosted]
    permissions: {contents: read}
    outputs: {word: "${{ steps.word.outputs.word }}"}
    steps:
      - uses: actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8
        with: {persist-credentials: false, path: here}
      - id: word
        env: {WORD: "${{ inputs.word || 'none' }}"}
        run: |
          printf 'word=%s\\n' "$WORD" >> "$GITHUB_OUTPUT"
          test -f here/README.md
          ! grep -rqi authorization here/.git/config
          echo "::warning file=a.yaml,line=3::look"
          echo "# told" >> "$GITHUB_STEP_SUMMARY"
          echo "$WORD" > "$RUNNER_TEMP/kept"
      - uses: actions/upload-artifact@330a01c490aca151604b8cf639adc76d48f6c5d4
        with: {name: kept, path: "${{ runner.temp }}/kept"}
  two:
    needs: one
    if: needs.one.outputs.word != 'none'
    runs-on: ubuntu-latest
    steps:
      - env: {WORD: "${{ needs.one.outputs.word }}"}
        run: echo "two has $WORD"
"""
SECOND = """\
name: second
on: {workflow_run: {workflows: [first], types: [completed]}}
permissions: {}
jobs:
  after:
    runs-on: ubuntu-latest
    steps:
      - env: {ENDED: "${{ github.event.workflow_run.conclusion }}"}
        run: echo "first ended with $ENDED"
      - run: exit 1
"""
ENDLESS = """\
name: endless
on: workflow_dispatch
permissions: {}
jobs:
  endless:
    runs-on: [self-hosted]
    steps:
      - run: |
          setsid env -u RUNNER_TRACKING_ID sleep 600 &
          echo "$!" > "$HOME/left"
          sleep 600 & echo "$!" > "$HOME/mine"
          wait
"""


@pytest.fixture
def actions() -> Iterator[Actions]:
    with GithubServer() as server:
        files = {"first": FIRST, "second": SECOND, "endless": ENDLESS}
        texts = {f".github/workflows/{name}.yml": text for name, text in files.items()}
        server.create_repository(REPOSITORY, files={"README.md": "# Models\n", **texts})
        with Actions(server, REPOSITORY, packages={"packages-x": Path(sys.prefix)}) as driver:
            yield driver
        assert server.violations == []


def test_a_push_wakes_a_workflow_and_its_end_another_one(actions: Actions) -> None:
    actions.server.commit(REPOSITORY, "main", {"a.txt": "a"}, by="dana")
    actions.settle()
    first, second = actions.runs
    assert (first.conclusion, {name: one.result for name, one in first.results.items()}) == (
        "success",
        {"one": "success", "two": "skipped"},
    ), first.log
    [warning] = first.annotations
    assert (warning.message, dict(warning.where)) == ("look", {"file": "a.yaml", "line": "3"})
    assert first.summary == "# told\n"
    assert (second.conclusion, "first ended with success" in second.log) == ("failure", True)
    artifacts = actions.server.store.repository(REPOSITORY)["artifacts"].values()
    assert [(one["name"], one["run"]) for one in artifacts] == [("kept", first.id)]
    assert actions.server.checks.of(REPOSITORY, first.commit) == {"one": "success", "after": "failure"}


def test_a_dispatch_has_inputs_and_jobs_have_outputs(actions: Actions) -> None:
    run = actions.dispatch("first.yml", by="dana", word="$(id) it's")
    actions.settle()
    assert run.results["two"].result == "success", run.log
    assert "two has $(id) it's" in run.log


def command(process: int) -> str:
    """Its command line; empty if it has ended."""
    file = Path(f"/proc/{process}/cmdline")
    return file.read_text() if file.exists() else ""


@pytest.mark.parametrize("how", ["kill", "cancel"])
def test_of_a_job_that_is_ended_only_what_was_detached_lives_on(actions: Actions, how: str) -> None:
    run = actions.dispatch("endless.yml", by="dana")
    left, mine = actions.home / "left", actions.home / "mine"
    until(lambda: mine.is_file() and mine.read_text().strip(), "the job to begin")
    getattr(actions, how)(run)
    assert actions.wait(run).conclusion == ("failure" if how == "kill" else "cancelled")
    detached = int(left.read_text())
    assert command(int(mine.read_text())) == ""
    assert "sleep" in command(detached)
    os.kill(detached, signal.SIGKILL)
    assert actions.rerun(run).attempt == 2
    actions.cancel(actions.runs[-1])
    actions.settle()
