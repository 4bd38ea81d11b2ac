"""`edgetrain apply`: reconcile main's tip, with progress, and end cleanly when asked to stop."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from edgetrain.cli.failure import EXIT_REFUSED
from edgetrain.cli.session import Session, format_option, pass_session
from edgetrain.core.errors import UsageError

if TYPE_CHECKING:
    from edgetrain.core.plan import Plan
    from edgetrain.reconcile.report import ApplyResult

MAX_PLAN_BYTES = 64 * 2**20
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Ends of a run that the machine had a part in: the same run may end well once that is mended.
MAY_PASS = ("EnvironmentFailed", "Killed", "OutOfMemory", "SandboxFailed", "TimedOut")
SHOW_CURSOR = b"\x1b[?25h"


@click.command()
@click.option(
    "--site",
    metavar="NAME",
    envvar="EDGETRAIN_SITE",
    help="The site whose runner this is; needed if there are several.",
)
@click.option(
    "--plan",
    "reviewed",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Apply only if the plan of now is this reviewed one.",
)
@click.option("--max-updates", type=click.IntRange(min=0), metavar="N", help="Allow this many updates.")
@click.option("--max-deletions", type=click.IntRange(min=0), metavar="N", help="Allow this many deletions.")
@click.option(
    "--lane",
    type=click.Choice(("all", "train", "release")),
    default="all",
    show_default=True,
    help="Only trainings and what follows them, or only releases, channels, withdrawals and cancels.",
)
@click.option("--wait/--no-wait", default=True, help="Wait for runs to end, or leave them to the next apply.")
@click.option(
    "--summary",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Append what was done, with metrics and charts, to this Markdown file.",
)
@format_option("text", "markdown", "json", "github")
@pass_session
@click.pass_context
def apply(
    context: click.Context,
    session: Session,
    site: str | None,
    reviewed: Path | None,
    max_updates: int | None,
    max_deletions: int | None,
    lane: str,
    wait: bool,
    summary: Path | None,
) -> None:
    """Bring the world to what main says.

    Reconciles the tip of the configured branch, not the work tree: trains, judges, proposes, releases and
    moves channels, and writes a record of each to git. Ctrl-C stops cleanly: what runs goes on, and the
    next apply takes it up again. Channel moves and releases never wait for a training.
    """
    from edgetrain.cli.progress import Progress
    from edgetrain.reconcile.apply import Options
    from edgetrain.reconcile.apply import apply as reconcile
    from edgetrain.reconcile.lanes import Lane
    from edgetrain.reconcile.main_branch import configured_branch
    from edgetrain.repo.git import Git

    options = Options(
        site=site,
        branch=configured_branch(Git.find(session.root)),
        reviewed=_read_plan(reviewed) if reviewed else None,
        max_updates=max_updates,
        max_deletions=max_deletions,
        lane=Lane(lane),
        wait=wait,
    )
    progress = Progress(session)
    with stopping_cleanly(session, options.stop) as caught, progress.shown_live():
        result = reconcile(session.root, options, progress)
    steps = next_steps(session.root, result, list(progress.proposals.values()))
    if summary is not None:
        _append_summary(summary, session.root, result, steps)
    _show(session, result, steps)
    if result.stopped and caught:
        context.exit(128 + caught[0])
    context.exit(0 if result.good else EXIT_REFUSED)


@contextmanager
def stopping_cleanly(session: Session, stop: threading.Event) -> Iterator[list[int]]:
    """SIGINT and SIGTERM set `stop`; a second one exits at once. Yields the list of signals that came."""
    caught: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        if caught:
            os.write(2, SHOW_CURSOR if os.isatty(2) else b"")
            os._exit(128 + number)
        caught.append(number)
        stop.set()
        # Not through session.say: the interrupted code may hold the stream's lock.
        os.write(2, b"\nstopping: runs go on and the next apply takes them up; again to exit at once\n")

    before = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _append_summary(file: Path, root: Path, result: ApplyResult, steps: list[str]) -> None:
    from edgetrain.reconcile.summing import scores
    from edgetrain.render.summary import summary_markdown

    with file.open("a", encoding="utf-8") as opened:
        opened.write(summary_markdown(result, scores(root, result), steps))


def _read_plan(path: Path) -> Plan:
    from edgetrain.core.plan import Plan

    try:
        with path.open("rb") as file:
            data = file.read(MAX_PLAN_BYTES + 1)
        if len(data) > MAX_PLAN_BYTES:
            raise ValueError("it is too large")
        return Plan.from_json(json.loads(data))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} holds no plan: {error}", reason="NotAPlan", fix="make one: edgetrain plan --out FILE"
        ) from None


def next_steps(root: Path, result: ApplyResult, proposals: list[str]) -> list[str]:
    """What a person does next: merge what was proposed, read what failed, go on with what was left."""
    from edgetrain.core.record import Outcome
    from edgetrain.reconcile.report import Status
    from edgetrain.repo.git import REMOTE, Git

    remote = f"{REMOTE}/" if Git.find(root).has_remote() else ""
    steps = [
        f"review {name}" if name.startswith("https://") else f"git merge --no-ff {remote}{name}"
        for name in proposals
    ]
    for row in result.results:
        if row.outcome in (Outcome.FAILED, Outcome.REJECTED, Outcome.LOST):
            run = row.message.partition(":")[0]
            steps.append(f"edgetrain logs {run}")
            if row.reason in MAY_PASS:
                steps.append(f"edgetrain retry {run} --reason ...")
    if result.stopped or any(row.status in (Status.UNDER_WAY, Status.WAITING) for row in result.results):
        steps.append("edgetrain apply")
    return list(dict.fromkeys(steps))


def _show(session: Session, result: ApplyResult, steps: list[str]) -> None:
    if session.format == "json":
        from edgetrain.render.jsons import applied_json

        session.show(applied_json(result, steps))
    elif session.format == "github":
        from edgetrain.render.github import applied_annotations

        session.show(applied_annotations(result))
    elif session.format == "markdown":
        from edgetrain.render.markdown import applied_markdown

        session.show(applied_markdown(result, steps))
    else:
        from edgetrain.cli.colour import painted
        from edgetrain.render.text import applied_text

        session.show(painted(applied_text(result, steps)))
