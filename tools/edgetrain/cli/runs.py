"""`edgetrain run`, `runs`, `logs`, `cancel`, `retry` and `gc`: everything about single runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from edgetrain.cli.failure import EXIT_INTERRUPTED, EXIT_REFUSED
from edgetrain.cli.names import experiments
from edgetrain.cli.names import runs as recorded
from edgetrain.cli.session import Session, format_option, pass_session
from edgetrain.core.errors import UsageError
from edgetrain.core.record import Outcome

if TYPE_CHECKING:
    from edgetrain.reconcile.report import Event
    from edgetrain.render.runs import Runs

REFRESH_SECONDS = 2.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _pairs(given: Sequence[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` texts by name. Raises UsageError for another form, or a name given twice."""
    found: dict[str, str] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise UsageError(f"{option} {text!r} is not NAME=VALUE", fix=f"write {option} NAME=VALUE")
        if name in found:
            raise UsageError(f"{option} gives {name!r} twice", fix="give it once")
        found[name] = value
    return found


@click.command()
@click.argument("experiment", shell_complete=experiments)
@click.option("--data", metavar="NAME=FOLDER", multiple=True, help="Read this folder or file instead.")
@click.option("--set", "values", metavar="NAME=VALUE", multiple=True, help="Give a parameter another value.")
@click.option("--timeout", metavar="TIME", help="Stop after this time, such as 10m; else as the experiment says.")
@click.option("--show-log/--hide-log", default=None, help="Show the script's output (on, but not under CI).")
@format_option("text", "json")
@pass_session
@click.pass_context
def run(
    context: click.Context,
    session: Session,
    experiment: str,
    data: Sequence[str],
    values: Sequence[str],
    timeout: str | None,
    show_log: bool | None,
) -> None:
    """Try EXPERIMENT here, uncommitted code and all.

    It runs under the same contract as after a merge: sandboxed, without a network, on its declared inputs.
    Nothing is written to git, to the workspace or to the site's store; the outputs are kept in the checkout,
    below .edgetrain/runs. Of a sweep the first trial is run. Ctrl-C stops the run.
    """
    from edgetrain.reconcile.trial import GOOD, Asked, try_out
    from edgetrain.render.trial import trial_json, trial_text

    folders = {name: Path(text) for name, text in _pairs(data, "--data").items()}
    asked = Asked(experiment, folders, _pairs(values, "--set"), _seconds(timeout))
    shows = os.environ.get("CI") is None if show_log is None else show_log
    stop = threading.Event()

    def say(event: Event) -> None:
        session.say(f"{event.kind.lower()} {event.subject} {event.message}".rstrip())

    def show(line: str) -> None:
        from edgetrain.core.problem import shown

        session.say(f"  | {shown(line, 1000)}")

    with stopping(stop):
        trial = try_out(session.root, asked, say, stop, show if shows else None)
    session.show(trial_json(trial) if session.format == "json" else trial_text(trial))
    if stop.is_set() and trial.outcome == Outcome.CANCELLED.value:
        context.exit(EXIT_INTERRUPTED)
    context.exit(0 if trial.outcome in GOOD else EXIT_REFUSED)


def _seconds(text: str | None) -> int | None:
    from edgetrain.core.quantity import seconds_of

    if text is None:
        return None
    try:
        seconds = seconds_of(text)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}", fix="write it like 90s, 10m or 1h30m") from None
    if seconds == 0:
        raise UsageError("--timeout: no time at all", fix="write it like 90s, 10m or 1h30m")
    return seconds


@contextmanager
def stopping(stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set `stop`; a second one exits at once."""

    def on_signal(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()
        # Not through session.say: the interrupted code may hold the stream's lock.
        os.write(2, b"\nstopping the run; again to leave at once\n")

    before = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command()
@click.option("--experiment", metavar="NAME", shell_complete=experiments, help="Only runs of this experiment.")
@click.option(
    "--outcome", type=click.Choice([outcome.value for outcome in Outcome]), help="Only with this outcome."
)
@click.option("--watch", is_flag=True, help="Go on until nothing is under way.")
@format_option("text", "json")
@pass_session
def runs(session: Session, experiment: str | None, outcome: str | None, watch: bool) -> None:
    """List runs and how they ended, newest last.

    Recorded runs come from git as it was last fetched; those under way are seen where the site's state is.
    """
    from edgetrain.reconcile.runs import list_runs

    found = list_runs(session.root, experiment, outcome)
    if watch:
        found = _watch(session, found, experiment, outcome)
    _show_runs(session, found)


def _under_way(found: Runs) -> bool:
    return any(row.state == "under way" and row.phase not in ("ended", "lost") for row in found.rows)


def _watch(session: Session, found: Runs, experiment: str | None, outcome: str | None) -> Runs:
    """Look again and again until nothing is under way; on a terminal the table is shown meanwhile, elsewhere a
    line says that it waits."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from edgetrain.reconcile.runs import list_runs
    from edgetrain.render.runs import runs_text

    pause = threading.Event()
    terminal = sys.stderr.isatty() and session.format == "text"
    console = Console(stderr=True, no_color=session.color is False)
    if not terminal and _under_way(found):
        session.say("waiting until no run is under way")
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while _under_way(found):
            if terminal:
                live.update(Text(runs_text(found)), refresh=True)
            pause.wait(REFRESH_SECONDS)
            found = list_runs(session.root, experiment, outcome)
    return found


def _show_runs(session: Session, found: Runs) -> None:
    from edgetrain.render.runs import runs_json, runs_text

    if session.format == "json":
        session.show(runs_json(found))
        return
    session.show(runs_text(found))
    for note in found.notes:
        session.say(f"note: {note}")


@click.command()
@click.argument("run_name", metavar="RUN", shell_complete=recorded)
@click.option("--follow", "-f", is_flag=True, help="Go on until the run ends.")
@format_option("text", "json")
@pass_session
def logs(session: Session, run_name: str, follow: bool) -> None:
    """Show what a run's script printed.

    RUN is a run's id, or its beginning; try-outs of this checkout count too. Logs stay at the site, so this
    is for the site's runner.
    """
    from edgetrain.core.problem import shown
    from edgetrain.reconcile.log_reader import read_log

    lines = read_log(session.root, run_name, follow)
    if session.format == "json":
        from edgetrain.render.jsons import as_json

        session.show(as_json({"lines": list(lines)}))
        return
    for line in lines:
        session.show(shown(line.expandtabs(), 10_000) + "\n")


@click.command()
@click.argument("run_name", metavar="RUN", shell_complete=recorded)
@click.option("--reason", default="", metavar="TEXT", help="Why: it goes into the run's record.")
@click.option("--lost", is_flag=True, help="Give it up without asking its target, which is gone for good.")
@format_option("text", "json")
@pass_session
def cancel(session: Session, run_name: str, reason: str, lost: bool) -> None:
    """Stop a run that is under way.

    RUN is a run's id, or its beginning. The next apply records it as cancelled (or, given up, as lost). A version
    that is made again on a cluster counts too; nothing is recorded of that.
    """
    from edgetrain.reconcile.runs import cancel as end

    answer(session, [("message", end(session.root, run_name, lost, reason))])


@click.command()
@click.argument("run_name", metavar="RUN", shell_complete=recorded)
@click.option("--reason", required=True, metavar="TEXT", help="Why: it goes into the run's record.")
@format_option("text", "json")
@pass_session
def retry(session: Session, run_name: str, reason: str) -> None:
    """Ask for another attempt of a run.

    RUN is a recorded run's id, or its beginning: the last attempt of what main still wants.
    """
    from edgetrain.reconcile.runs import retry as ask

    following = ask(session.root, run_name, reason)
    answer(session, [("message", f"the next apply starts {following}"), ("run", following)])


def answer(session: Session, rows: Sequence[tuple[str, str]]) -> None:
    """Show the first value as text, or all by name as JSON."""
    from edgetrain.render.runs import said

    session.show(said(rows) if session.format == "json" else f"{rows[0][1]}\n")


@click.command()
@click.option("--delete", is_flag=True, help="Delete; without this only a list is made.")
@click.option(
    "--keep-days", type=click.IntRange(min=0), default=90, show_default=True, help="Keep what is younger."
)
@click.option("--site", metavar="NAME", envvar="EDGETRAIN_SITE", help="The site; needed if there are several.")
@format_option("text", "json")
@pass_session
def gc(session: Session, delete: bool, keep_days: int, site: str | None) -> None:
    """Remove stored files that nothing names any more.

    Kept are the files of versions, open proposals, runs that main wants, runs under way, and all that is
    younger than --keep-days. What no record names is left alone.
    """
    from edgetrain.reconcile.collect import collect
    from edgetrain.render.runs import collection_json, collection_text

    found = collect(session.root, site, keep_days, delete, datetime.now(UTC))
    session.show(collection_json(found) if session.format == "json" else collection_text(found))
