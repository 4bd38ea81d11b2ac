"""Closes proposals whose run is no candidate any more, and says why: `validate` would let nobody merge them."""

from __future__ import annotations

from edgetrain.core.plan import Change
from edgetrain.core.record import RunRecord
from edgetrain.reconcile.context import Context
from edgetrain.reconcile.observe import open_proposals
from edgetrain.reconcile.report import Result, Status
from edgetrain.render.proposal import closed_markdown

MARK = "closed"


def close(context: Context, change: Change) -> Result:
    """Ensure that nothing proposes the run any more. On a forge the pull request is closed, with a comment, as
    people close one; elsewhere its branch is taken away."""
    branch, forge = str(change.subject["branch"]), context.site.forge
    run = context.state.recorded.run(change.subject["record"])
    if run is None:
        fix = "see `edgetrain log`, and apply again"
        return Result(change.id, "close", Status.FAILED, "RecordGone", "the run's record is not on main", fix)
    with context.site.artifacts.lock(f"proposal/{run.model}"):
        there = open_proposals(context.state.git, context.ledger, context.site, sure=True)
        if there.get(branch) != run.digest:
            return Result(change.id, "close", Status.UNCHANGED, "Superseded", "another run has its place by now")
        if forge is None:
            context.step("withdraw-branch")
            context.ledger.withdraw(branch)
        else:
            for pull in forge.open_pull_requests(branch):
                if pull.branch == branch:
                    context.step("comment")
                    forge.comment(pull.number, MARK, [_why(context, run)])
                    context.step("close")
                    forge.close(pull.number)
    context.tell("Closed", branch, f"{run.run_id} is no candidate any more")
    return Result(change.id, "close", Status.APPLIED, change.reason, f"{run.run_id} is no candidate any more")


def _why(context: Context, run: RunRecord) -> str:
    recorded = context.state.recorded
    last = recorded.evaluation(run) or run
    outcome, said = recorded.outcome(run).value, str(last.data.get("message", ""))
    return closed_markdown(run.model, run.run_id, outcome, said, last.path)
