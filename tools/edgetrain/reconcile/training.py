"""The scheduler of one apply: fills each target's slots with runs, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from edgetrain.core.kinds import ComputeTarget
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Change, Operation
from edgetrain.core.planner.refusals import usable
from edgetrain.reconcile.conduct import target_gone
from edgetrain.reconcile.context import Context
from edgetrain.reconcile.report import Result, Status

MAX_WORKERS = 64


def train_all(
    context: Context,
    changes: Sequence[Change],
    observed: Observation,
    attempt: Callable[[Change, ComputeTarget], Result],
) -> list[Result]:
    """Bring all runs to their ends, as many at once as the slots allow; stops starting when asked to stop.

    Runs under way come first, for they hold a slot already. Then the order is fair between experiments:
    the one with the fewest runs under way is next.
    """
    pending = sorted(changes, key=lambda change: change.operation is not Operation.ADOPT)
    busy: Counter[str] = Counter()
    under_way: Counter[str] = Counter()
    running: dict[Future[Result], tuple[str, str]] = {}
    results: list[Result] = []
    with ThreadPoolExecutor(max_workers=MAX_WORKERS, thread_name_prefix="run") as pool:
        while pending or running:
            while (chosen := _next(context, pending, observed, busy, under_way)) is not None:
                change, target = chosen
                pending.remove(change)
                name, experiment = target.metadata.name, str(change.subject["experiment"])
                busy[name] += 1
                under_way[experiment] += 1
                running[pool.submit(attempt, change, target)] = (name, experiment)
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                name, experiment = running.pop(future)
                busy[name] -= 1
                under_way[experiment] -= 1
                results.append(future.result())
    if pending and not context.stop.is_set():
        results += [_homeless(change, observed) for change in pending]
    return results


def _homeless(change: Change, observed: Observation) -> Result:
    if change.operation is Operation.ADOPT:
        run = change.subject["run"]
        gone = target_gone(run, observed.tickets[run]["target"])
        return Result(change.id, change.operation.value, Status.REFUSED, gone.reason, gone.message, gone.fix)
    return Result(
        change.id,
        change.operation.value,
        Status.REFUSED,
        "NoTarget",
        "no target that can be reached takes this run now",
        "see `edgetrain plan --refresh` for the state of the targets",
    )


def _next(
    context: Context,
    pending: Sequence[Change],
    observed: Observation,
    busy: Counter[str],
    under_way: Counter[str],
) -> tuple[Change, ComputeTarget] | None:
    if context.stop.is_set():
        return None
    for change in sorted(pending, key=lambda change: under_way[str(change.subject["experiment"])]):
        experiment = context.state.desired.experiments[change.subject["experiment"]]
        if experiment.max_concurrent and under_way[experiment.name] >= experiment.max_concurrent:
            continue
        target = _target(context, change, observed, busy)
        if target is not None:
            return change, target
    return None


def _target(context: Context, change: Change, observed: Observation, busy: Counter[str]) -> ComputeTarget | None:
    """The target with the most free slots among those that can take the run; a ticket's own for an adoption."""
    desired = context.state.desired
    experiment = desired.experiments[change.subject["experiment"]]
    if change.operation is Operation.ADOPT:
        target = desired.targets.get(observed.tickets[change.subject["run"]]["target"])
        return target if target is not None and busy[target.metadata.name] < target.capacity.slots else None
    wanted = change.subject["identityOf"]
    free = []
    for target in desired.targets_for(experiment):
        status = observed.targets.get(target.metadata.name)
        if target.site != context.site.name or not target.schedulable or status is None:
            continue
        if usable(desired, experiment, target, observed):
            continue
        if (status.python, status.platform) != (wanted["python"], wanted["platform"]):
            continue
        slots = target.capacity.slots - busy[target.metadata.name]
        if slots > 0:
            free.append((slots, target))
    return max(free, key=lambda pair: pair[0])[1] if free else None
