"""The whole story of a merge: read main's tip, plan, refuse surprises, do the rest, record, plan again."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from edgetrain.core.checks.main import main_problems
from edgetrain.core.errors import EdgetrainError, StalePlan, Stopped
from edgetrain.core.kinds import ComputeTarget
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Change, Operation, Plan
from edgetrain.core.planner import check_limits, surprises
from edgetrain.providers.durable import storage_error
from edgetrain.reconcile.attaching import attach
from edgetrain.reconcile.closing import close
from edgetrain.reconcile.conduct import cancel_superseded, conduct
from edgetrain.reconcile.context import Context, no_step
from edgetrain.reconcile.evaluating import evaluate_again
from edgetrain.reconcile.judge import judge_tip
from edgetrain.reconcile.lanes import ASIDE, ATTACHING, ON_TARGETS, RELEASING, Lane
from edgetrain.reconcile.observe import observe
from edgetrain.reconcile.outcomes import Outcomes, tell_outcomes
from edgetrain.reconcile.planning import checked, open_site, plan_of
from edgetrain.reconcile.proposing import propose
from edgetrain.reconcile.releasing import Built, release
from edgetrain.reconcile.remote import connect, connect_as_known
from edgetrain.reconcile.report import ApplyResult, Event, Report, Result, Status
from edgetrain.reconcile.seen import check_seen
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.state import State, open_ledger, read_tip
from edgetrain.reconcile.tidying import tidy_recorded
from edgetrain.reconcile.training import train_all
from edgetrain.repo.git import Git

MAX_ROUNDS = 5


@dataclass(frozen=True)
class Options:
    """How to apply. `reviewed` is a plan whose digest must equal that of now; the maxima lift the limits;
    without `wait` runs are started and left to the next apply. Only changes of the `lane` are made."""

    site: str | None = None
    branch: str = "main"
    lane: Lane = Lane.ALL
    reviewed: Plan | None = None
    max_updates: int | None = None
    max_deletions: int | None = None
    wait: bool = True
    stop: threading.Event = field(default_factory=threading.Event)
    step: Callable[[str], None] = no_step


def apply(root: Path, options: Options, report: Report) -> ApplyResult:
    """Reconcile main's tip until nothing is left to do, in at most five rounds.

    Raises InvalidFiles, StalePlan, UnsafePlan, RepositoryError or ProviderError before anything was done;
    what fails later is in the results, and the rest goes on.
    """
    git = Git.find(root)
    connect_as_known(git, options.branch)
    done = Done(Outcomes(options.lane))
    try:
        while done.rounds < MAX_ROUNDS and not done.stopped and one_round(git, options, report, done):
            continue
    except EdgetrainError as error:
        if done.rounds == 0:
            raise
        done.tried["apply"] = Result("apply", "plan", Status.FAILED, error.reason, error.message, error.fix)
    if done.first is None:
        raise StalePlan("nothing was planned", fix="apply again")
    if done.context is not None:
        tell_outcomes(done.outcomes, done.context, done.tried)
    commit = git.tip(options.branch, refresh=False)
    return ApplyResult(done.first, tuple(done.tried.values()), done.rounds, commit, done.stopped)


@dataclass
class Done:
    """How far an apply came. `first` is the first round's plan, `tried` each change's result, `seen` what
    is not tried again: a newer candidate's proposal is another one, although it takes the same place. `outcomes`
    are the comments that it owes."""

    outcomes: Outcomes
    context: Context | None = None
    first: Plan | None = None
    tried: dict[str, Result] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)
    rounds: int = 0
    stopped: bool = False

    def fresh(self, changes: Iterable[Change]) -> list[Change]:
        """Those that can be done and were not tried yet; they count as tried from now on. A run whose target is
        only to be attached is planned anew when it is: what it needs to know of the target shows then."""
        found = []
        changes = list(changes)
        attaching = {change.id for change in changes if change.operation is Operation.ATTACH}
        for change in changes:
            proposes = change.operation is Operation.PROPOSE
            key = (change.id, str(change.subject.get("run", "")) if proposes else "")
            if not change.conditional and key not in self.seen and not attaching & set(change.after):
                self.seen.add(key)
                found.append(change)
        return found


def one_round(git: Git, options: Options, report: Report, done: Done) -> bool:
    """Plan main's tip and do what is due; whether another round may find more."""
    state = read_tip(git, options.branch)
    context, observed = prepare(state, options, report)
    offline, plan = plans(state, observed)
    if done.first is None:
        check_reviewed(options.reviewed, offline, plan)
    plan = of_lane(plan, options)
    done.first = done.first or plan
    check_limits(plan, state.desired, options.max_updates, options.max_deletions)
    context.plan_digest = plan.digest
    unreviewed = surprises(offline, plan) - seen_by_people(options.reviewed)
    todo = done.fresh(change for change in plan.changes if change.operation in options.lane.operations)
    done.context = context
    if not todo:
        return False
    done.outcomes.expect(context, todo)
    done.rounds += 1
    report(Event("Round", str(done.rounds), f"{len(todo)} change(s)"))
    aside = partial(release_aside, git, options, report, context, done)
    for result in carry_out(context, todo, unreviewed, observed, aside):
        done.tried[result.change] = result
    for result in blocked(plan, done):
        done.tried[result.change] = result
    done.stopped = options.stop.is_set()
    if options.lane is not Lane.RELEASE:
        tidy_recorded(context)
    return True


def blocked(plan: Plan, done: Done) -> list[Result]:
    """The runs that were not started because none of their targets could be attached."""
    attached = {change.id for change in plan.changes if change.operation is Operation.ATTACH}
    found = []
    for change in plan.changes:
        tried = [done.tried.get(name) for name in change.after if name in attached]
        if change.operation is Operation.TRAIN and tried and all(one and not one.good for one in tried):
            what = f"what it follows failed: {', '.join(change.after)}"
            found.append(Result(change.id, change.operation.value, Status.REFUSED, "Blocked", what))
    return found


def prepare(
    state: State, options: Options, report: Report, beside: Site | None = None
) -> tuple[Context, Observation]:
    """Open the site and look at the world; `beside` an apply that trains, and in the lane of releases, only at what
    a release needs: neither a target nor a digest of data is waited for.

    Raises InvalidFiles if main, or a record on it, has problems.
    """
    judgement = judge_tip(state)
    site = beside or open_site(checked(state, main_problems(judgement.wrong)), options.site)
    check_seen(state, site)
    connect(state.git, site)
    for warning in judgement.warnings:
        report(Event("Note", "git", f"{warning.what}; {warning.fix}"))
    ledger = open_ledger(state, options.step, lambda text: report(Event("Note", "git", text)))
    context = Context(state, site, ledger, report, stop=options.stop, step=options.step, waits=options.wait)
    quick = beside is not None or options.lane is Lane.RELEASE
    if not quick:
        tidy_recorded(context)
    # A reviewed plan is compared with all of the world, as it was made.
    training = not quick or (beside is None and options.reviewed is not None)
    return context, observe(state.desired, state.recorded, site, state.git, ledger, training)


def release_aside(git: Git, options: Options, report: Report, context: Context, done: Done) -> list[Result]:
    """Do what became due on main while runs go on: channel moves, releases, proposals. A fault of it all is
    told and left to the next apply, for the runs must be seen to their ends."""
    results: dict[str, Result] = {}
    try:
        for _ in range(MAX_ROUNDS):
            state = read_tip(git, options.branch)
            if state.commit == context.state.commit:
                break
            beside, observed = prepare(state, options, report, beside=context.site)
            offline, plan = plans(state, observed)
            check_limits(plan, state.desired, options.max_updates, options.max_deletions)
            beside.plan_digest = plan.digest
            mine = ASIDE & options.lane.operations
            todo = done.fresh(change for change in plan.changes if change.operation in mine)
            if not todo:
                break
            done.outcomes.expect(beside, todo)
            for result in carry_out(beside, todo, surprises(offline, plan), observed, list):
                results[result.change] = result
    except (EdgetrainError, OSError, MemoryError) as error:
        told = _told(error, "releasing beside the runs")
        report(Event("Note", "beside the runs", f"{told.message}; the next apply tries again"))
    return list(results.values())


def plans(state: State, observed: Observation) -> tuple[Plan, Plan]:
    """The offline and the refreshed plan of one state."""
    return plan_of(state), plan_of(state, observed)


def of_lane(plan: Plan, options: Options) -> Plan:
    """The plan without what is refused in the other lane: a rollback is well though an experiment is not."""
    if options.lane is not Lane.RELEASE or options.reviewed is not None:
        return plan
    problems = (found for found in plan.problems if not found.path.startswith(("experiments/", "compute/")))
    return replace(plan, problems=tuple(problems))


def check_reviewed(reviewed: Plan | None, offline: Plan, refreshed: Plan) -> None:
    """Raise StalePlan unless the reviewed plan is the plan of now."""
    if reviewed is None:
        return
    now = refreshed if reviewed.refreshed else offline
    if reviewed.digest != now.digest:
        raise StalePlan(
            f"the plan given is {reviewed.digest[:19]}, the plan of now is {now.digest[:19]}",
            fix="make a new plan, have it reviewed, and apply that one",
        )


def seen_by_people(reviewed: Plan | None) -> set[str]:
    """Ids of the changes that a reviewed plan shows: an offline one shows no surprise."""
    return {change.id for change in reviewed.changes} if reviewed else set()


def carry_out(
    context: Context,
    changes: list[Change],
    unreviewed: set[str],
    observed: Observation,
    aside: Callable[[], list[Result]],
) -> list[Result]:
    """Channel moves and releases first, attachments, verdicts, then runs, then proposals. One failure stops only
    what hangs on it. `aside` does, while runs go on, what must not wait for them."""
    results: list[Result] = []
    bad: set[str] = set()
    built: Built = {}

    def do(change: Change, act: Callable[[], Result]) -> Result:
        if change.id in unreviewed:
            result = Result(
                change.id,
                change.operation.value,
                Status.REFUSED,
                "Unreviewed",
                "the world differs from the records in a way that nobody reviewed: " + _fields(change),
                "review `edgetrain plan --refresh --out FILE`; if that is right: `edgetrain apply --plan FILE`",
            )
        elif bad & set(change.after):
            result = Result(change.id, change.operation.value, Status.REFUSED, "Blocked", "what it follows failed")
        else:
            result = guarded(change, act)
        if not result.good:
            bad.add(change.id)
        kind = "Applied" if result.good else "Failed"
        said = result.outcome.value if result.outcome else result.status.value
        context.tell(kind, change.id, f"{said}: {result.reason} {result.message}".strip())
        return result

    def on_target(change: Change, target: ComputeTarget, freed: Callable[[], None]) -> Result:
        if change.operation is Operation.SCORE:
            return do(change, lambda: evaluate_again(context, change, target))
        return do(change, lambda: _named(conduct(context, change, target, freed), change))

    runs = [change for change in changes if change.operation in ON_TARGETS]
    for change in changes:
        if context.stop.is_set():
            break
        if change.operation in ATTACHING:
            results.append(do(change, lambda change=change: attach(context, change)))  # type: ignore[misc]
        elif change.operation in RELEASING:
            results.append(do(change, lambda change=change: release(context, change, built)))  # type: ignore[misc]
        elif change.operation is Operation.EVALUATE:
            results.append(do(change, lambda change=change: evaluate_again(context, change)))  # type: ignore[misc]
        elif change.operation is Operation.CLOSE:
            results.append(do(change, lambda change=change: close(context, change)))  # type: ignore[misc]
        elif change.operation is Operation.CANCEL:
            results.append(do(change, lambda change=change: cancel_superseded(context, change)))  # type: ignore[misc]
    results += train_all(context, runs, observed, on_target, aside)
    for change in changes:
        if change.operation is Operation.PROPOSE and not context.stop.is_set():
            results.append(do(change, lambda change=change: propose(context, change)))  # type: ignore[misc]
    return results


def guarded(change: Change, act: Callable[[], Result]) -> Result:
    """Do it; an error of the outside world becomes a result with its reason and what to do next."""
    try:
        return act()
    except Stopped as error:
        return Result(change.id, change.operation.value, Status.UNDER_WAY, error.reason, error.message)
    except (EdgetrainError, OSError, MemoryError) as error:
        told = _told(error, "using the site's state")
        return Result(change.id, change.operation.value, Status.FAILED, told.reason, told.message, told.fix)


def _told(error: EdgetrainError | OSError | MemoryError, doing: str) -> EdgetrainError:
    if isinstance(error, MemoryError):
        error = OSError(errno.ENOMEM, "")
    return error if isinstance(error, EdgetrainError) else storage_error(error, doing)


def _named(result: Result, change: Change) -> Result:
    message = f"{result.change}: {result.message}"
    return Result(
        change.id, change.operation.value, result.status, result.reason, message, result.fix, result.outcome
    )


def _fields(change: Change) -> str:
    return ", ".join(f"{d.path} is {d.actual!r}, not {d.desired!r}" for d in change.differences)
