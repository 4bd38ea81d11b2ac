"""The scheduler of one apply: fills each target's slots with runs, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue

from edgetrain.core.kinds import ComputeTarget
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Change, Operation
from edgetrain.core.planner.refusals import usable
from edgetrain.core.record import Outcome
from edgetrain.reconcile.conduct import target_gone
from edgetrain.reconcile.context import Context
from edgetrain.reconcile.report import Result, Status
from edgetrain.reconcile.slots import Slots

# Runs that are watched, checked and recorded at once; a target's slots bound what runs.
MAX_WORKERS = 256
# How often main's tip is looked at while runs go on: a channel moved there is moved within two minutes.
ASIDE_SECONDS = 30.0

Attempt = Callable[[Change, ComputeTarget, Callable[[], None]], Result]


def train_all(
    context: Context,
    changes: Sequence[Change],
    observed: Observation,
    attempt: Attempt,
    aside: Callable[[], list[Result]],
) -> list[Result]:
    """Bring all runs to their ends, as many at once as slots and capacity allow.

    Runs under way come first, for they hold a slot already. Then the order is fair between experiments:
    the one with the fewest runs under way is next. A run's slot is free when the run has ended, before it is
    checked and recorded: `attempt` says so by its last argument. `aside` does what must not wait for a
    training; it is called beside the runs whenever one has become a candidate, and now and then.
    Starts nothing more when asked to stop.
    """
    pending = sorted(changes, key=lambda change: change.operation is not Operation.ADOPT)
    slots = Slots()
    inbox: SimpleQueue[tuple[Change, Result | BaseException | None]] = SimpleQueue()
    results: list[Result] = []
    working = 0
    other: Future[list[Result]] | None = None

    def work(change: Change, target: ComputeTarget) -> None:
        try:
            inbox.put((change, attempt(change, target, lambda: inbox.put((change, None)))))
        except BaseException as error:  # a fault of ours: it ends the apply, and must not hang it
            inbox.put((change, error))

    with (
        ThreadPoolExecutor(max_workers=MAX_WORKERS, thread_name_prefix="run") as pool,
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="aside") as side,
    ):
        while True:
            while working < MAX_WORKERS and (chosen := _next(context, pending, observed, slots)) is not None:
                change, target = chosen
                pending.remove(change)
                slots.take(change.id, target, context.state.desired.experiments[change.subject["experiment"]])
                pool.submit(work, change, target)
                working += 1
            if not working:
                break
            due = False
            try:
                change, result = inbox.get(timeout=ASIDE_SECONDS)
                if isinstance(result, BaseException):
                    context.stop.set()
                    raise result
                if result is not None:
                    working -= 1
                    results.append(result)
                    due = result.outcome is Outcome.CANDIDATE
                if result is None or result.status is not Status.UNDER_WAY:
                    slots.free(change.id)
            except Empty:
                due = True
            if other is not None and other.done():
                results += other.result()
                other = None
            if due and other is None and working and not context.stop.is_set():
                other = side.submit(aside)
        if other is not None:
            results += other.result()
    if pending and not context.stop.is_set():
        results += [_left(context, change, observed, slots) for change in pending]
    return results


def _left(context: Context, change: Change, observed: Observation, slots: Slots) -> Result:
    """Why a run was not started: it waits for a slot, or no target takes it."""
    operation = change.operation.value
    if change.operation is Operation.ADOPT:
        run = change.subject["run"]
        if (name := observed.tickets[run]["target"]) not in context.state.desired.targets:
            gone = target_gone(run, name)
            return Result(change.id, operation, Status.REFUSED, gone.reason, gone.message, gone.fix)
    able = _able(context, change, observed)
    if able:
        names = ", ".join(
            f"{t.metadata.name} has {max(slots.left(t), 0)} of {t.capacity.slots} slots" for t in able
        )
        return Result(change.id, operation, Status.WAITING, "NoFreeSlot", f"{names} free; the next apply starts it")
    return Result(
        change.id,
        operation,
        Status.REFUSED,
        "NoTarget",
        "no target that can be reached takes this run now",
        "see `edgetrain plan --refresh` for the state of the targets",
    )


def _next(
    context: Context, pending: Sequence[Change], observed: Observation, slots: Slots
) -> tuple[Change, ComputeTarget] | None:
    if context.stop.is_set():
        return None
    for change in sorted(pending, key=lambda change: slots.of(str(change.subject["experiment"]))):
        experiment = context.state.desired.experiments[change.subject["experiment"]]
        adopted = change.operation is Operation.ADOPT
        if not adopted and experiment.max_concurrent and slots.of(experiment.name) >= experiment.max_concurrent:
            continue
        able = _able(context, change, observed)
        # What runs already has its slot, whatever the manifests say of it now.
        free = able if adopted else [target for target in able if slots.room(target, experiment)]
        if free:
            return change, max(free, key=slots.left)
    return None


def _able(context: Context, change: Change, observed: Observation) -> list[ComputeTarget]:
    """The targets that could take the run, were they free; a ticket's own for an adoption."""
    desired = context.state.desired
    experiment = desired.experiments[change.subject["experiment"]]
    if change.operation is Operation.ADOPT:
        target = desired.targets.get(observed.tickets[change.subject["run"]]["target"])
        return [target] if target is not None else []
    wanted = change.subject["identityOf"]
    found = []
    for target in desired.targets_for(experiment):
        status = observed.targets.get(target.metadata.name)
        if target.site != context.site.name or not target.schedulable or status is None:
            continue
        if usable(desired, experiment, target, observed):
            continue
        python = wanted["python"] if target.runs_containers else status.python
        if (python, status.platform) == (wanted["python"], wanted["platform"]):
            found.append(target)
    return found
