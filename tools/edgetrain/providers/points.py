"""A run's metrics as trackers take them: one sequence of points, whose last shows the final value."""

from __future__ import annotations

from collections.abc import Iterator

from edgetrain.core.ports import MetricPoint, TrackedRun


def points(run: TrackedRun) -> Iterator[MetricPoint]:
    """The history, then each final value where the history does not end with it.

    Trackers show the point of the highest step, so a final value gets the step after its history.
    """
    last: dict[str, tuple[int, float]] = {}
    for point in run.history:
        last[point.name] = max(last.get(point.name, (point.step, point.value)), (point.step, point.value))
        yield point
    for name, value in sorted(run.metrics.items()):
        step, shown = last.get(name, (-1, None))
        if shown != value:
            yield MetricPoint(name, value, step + 1)
