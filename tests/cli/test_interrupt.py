"""Ctrl-C at any verb: exit code 130, a line of what became of it, no traceback, and nothing half-written."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgetrain.cli.app import app
from edgetrain.cli.table import VERBS
from edgetrain.core.record import Outcome
from edgetrain.reconcile.report import Status
from edgetrain.reconcile.runs import list_runs
from edgetrain.repo.command import require_git
from tests.apply.site import SCRIPT, SmallSite
from tests.cli.command import edgetrain, environment
from tests.outputs import sound

# Each asks git for something, or another program; it stands still there, and is told to stop.
CALLS = {
    "validate": ("validate",),
    "plan": ("plan", "--out", "plan.json"),
    "plan as JSON": ("plan", "--format", "json"),
    "apply": ("apply",),
    "drift": ("drift",),
    "doctor": ("doctor", "--quick"),
    "verify": ("verify", "--deep"),
    "reproduce": ("reproduce", "mine@1"),
    "audit": ("audit", "--since", "2026-01-01"),
    "log": ("log", "mine"),
    "run": ("run", "mine"),
    "runs": ("runs", "--watch"),
    "logs": ("logs", "mine-0", "--follow"),
    "retry": ("retry", "mine-0", "--reason", "why not"),
    "propose": ("propose", "--data"),
    "gc": ("gc", "--delete"),
    "init": ("init", "--check"),
    "github due": ("github", "due"),
}
OWN = ("run", "reproduce")
STANDS = "#!/bin/sh\necho $0 > {told}\nexec tail -f /dev/null\n"


@contextmanager
def called(root: Path, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The verb under way, in a process group of its own as a terminal's job is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgetrain", *arguments],
        cwd=root,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # all of the group: what stands still would stay for ever
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def said(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it said when it was told to stop, as a terminal tells it: to its whole group."""
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    return out, err


def test_it_ends_with_130_and_a_line_and_leaves_all_as_it_was(repository: Path, tmp_path: Path) -> None:
    assert edgetrain("new", "experiment", "mine", cwd=repository).code == 0
    before = files(repository)
    with ExitStack() as stack:
        under_way = []
        for name, arguments in CALLS.items():
            programs = tmp_path / f"programs of {name}"
            programs.mkdir()
            os.mkfifo(programs / "told")
            (programs / "git").write_text(STANDS.format(told=f"'{programs}/told'"))
            (programs / "git").chmod(0o755)
            path = f"{programs}{os.pathsep}{os.environ['PATH']}"
            under_way.append(
                (name, programs / "told", stack.enter_context(called(repository, *arguments, PATH=path)))
            )
        for name, stands, process in under_way:
            assert stands.read_text().endswith("git\n")
            if name in OWN:  # a run would end in order; here there is none yet, and git does not answer
                assert process.stderr is not None
                os.killpg(process.pid, signal.SIGINT)
                assert [process.stderr.readline() for _ in range(2)][
                    1
                ] == "stopping the run; again to leave at once\n"
                assert said(process) == ("", "")
                continue
            out, err = said(process)
            if name == "plan as JSON":
                assert sound("plan", out)["error"]["reason"] == "Interrupted"
            else:
                verb = VERBS[name.partition(" ")[0]]
                assert (out, err.strip().splitlines()[-1]) == ("", f"stopped: {verb.stopped}"), name
    assert files(repository) == before


@pytest.mark.parametrize("at", range(3))
def test_git_ends_though_ctrl_c_comes_while_it_is_begun(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """In the instant between the new process and whoever would end it; it would stand still for ever."""
    (tmp_path / "git").write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    (tmp_path / "git").chmod(0o755)
    begin, real, begun = subprocess.Popen._execute_child, os.environ["PATH"], []  # type: ignore[attr-defined]

    def interrupted(process: Any, *arguments: Any) -> None:
        begun.append(process)
        if len(begun) > at:
            monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{real}")
        begin(process, *arguments)
        if len(begun) > at:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess.Popen, "_execute_child", interrupted)
    require_git.cache_clear()
    before = signal.getsignal(signal.SIGINT)
    ended = CliRunner().invoke(app, ["-C", str(repository), "runs"])
    assert (ended.exit_code, ended.stderr.strip()) == (130, f"stopped: {VERBS['runs'].stopped}")
    assert len(begun) == at + 1
    assert [process.returncode is None for process in begun] == [False] * len(begun)
    assert signal.getsignal(signal.SIGINT) is before


def test_nobody_waits_for_an_answer_that_does_not_come(repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = repository / "edgetrain.yaml"
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        registry = f"  registries: {{hub: {{type: oci, host: '{host}', plainHttp: true}}}}\n"
        settings.write_text(settings.read_text() + registry)
        with called(repository, "doctor") as process:
            asked, _ = silent.accept()
            with asked:
                assert asked.recv(1)
                out, err = said(process)
    assert out == ""
    # A check that Ctrl-C ended too may still have had its word after it.
    assert "stopped: nothing of the site was changed" in err.splitlines()


@pytest.mark.parametrize("verb", ["new", "lock"])
def test_nothing_is_half_written(repository: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    assert edgetrain("new", "experiment", "mine", cwd=repository).code == 0
    (repository / "experiments/mine/requirements.in").write_text("")
    arguments = {"new": ("new", "experiment", "other"), "lock": ("lock", "mine")}[verb]
    before = files(repository)
    open_, made = Path.open, []

    def third(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        made.extend([self] if mode == "x" else [])
        if len(made) == 3:
            raise KeyboardInterrupt
        return open_(self, mode, *rest, **more)

    def never(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "open", third)
    monkeypatch.setattr(Path, "replace", never)
    ended = CliRunner().invoke(app, ["-C", str(repository), *arguments])
    monkeypatch.undo()
    assert ended.exit_code == 130
    assert ended.stderr.endswith(f"stopped: {VERBS[verb].stopped}\n")
    assert files(repository) == before


def test_a_new_site_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link, linked = os.link, []

    def fifth(*arguments: Any, **more: Any) -> None:
        linked.append(arguments)
        if len(linked) == 5:
            raise KeyboardInterrupt
        link(*arguments, **more)

    monkeypatch.setattr(os, "link", fifth)
    call = ["init", str(tmp_path / "above" / "a site"), "--forge", "none", "--site", "plant", "--owners", "@a/b"]
    ended = CliRunner().invoke(app, call)
    monkeypatch.undo()
    assert (ended.exit_code, len(linked)) == (130, 5)
    assert ended.stderr.endswith(f"stopped: {VERBS['init'].stopped}\n")
    assert list(tmp_path.iterdir()) == []


# Its data tells it whether to wait, by a time that no digest knows.
WAITS = """\
import os, pathlib, select
if pathlib.Path(os.environ["EDGETRAIN_INPUT_TABLE"], "a.txt").stat().st_mtime < 10:
    print("begun", flush=True)
    select.select([], [], [])
"""


def until(stream: Any, word: str) -> None:
    """Read it until a line has the word."""
    for line in stream:
        if word in line:
            return
    raise AssertionError(f"it ended without {word}")


def test_who_waits_for_a_run_stops_and_the_run_goes_on_and_who_trains_again_stops_it(tmp_path: Path) -> None:
    site = SmallSite(tmp_path / "a site").make()
    site.write("experiments/mean/train.py", WAITS + SCRIPT)
    site.push("Wait for a sign")
    site.release()
    os.utime(site.data / "table" / "a.txt", (1, 1))
    before = files(site.state)
    with called(site.clone, "reproduce", "mean@1") as process:
        until(process.stderr, "running mean-")
        out, err = said(process)
        assert (out, err.splitlines()[-1]) == ("", "stopped; nothing was compared")
    assert files(site.state) == before
    # Two marks, which say that the run was forgotten, and nothing of it.
    left = [path.rpartition("/")[2] for path in files(site.clone / ".edgetrain") if "/mean-" in path]
    assert set(left) <= {"forgotten", "lock"}

    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4")
    site.push("Shift less")
    assert Status.UNDER_WAY in {one.status for one in site.apply(wait=False).results}
    [run] = [row.id for row in list_runs(site.clone).rows if row.state == "under way"]
    before = set(files(site.state))
    for arguments, stream, word in (
        (("logs", run, "--follow"), "stdout", "begun"),
        (("runs", "--watch"), "stderr", "under way"),
    ):
        with called(site.clone, *arguments) as process:
            until(getattr(process, stream), word)
            _, err = said(process)
            assert err.splitlines()[-1] == f"stopped: {VERBS[arguments[0]].stopped}"
    assert set(files(site.state)) == before
    assert [row.phase for row in list_runs(site.clone).rows if row.id == run] == ["running"]
    assert edgetrain("cancel", run, "--format", "json", cwd=site.clone).code == 0
    assert [one.outcome for one in site.apply().results] == [Outcome.CANCELLED]
