"""What Azure ML takes: names, and number and length of tags, properties and metrics; asked before it says no."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping

from edgetrain.core.errors import Rejected
from edgetrain.core.ports import TrackedRun

# The service's published limits of a run.
MOST_ENTRIES = 50
LONGEST_KEY = 100
LONGEST_VALUE = 1000
MOST_METRICS = 50
LONGEST_METRIC = 255
METRICS_PER_BATCH = 250

_NAMES = {
    "run": re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,255}"),
    "experiment": re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}"),
    "model": re.compile(r"[A-Za-z0-9][-._A-Za-z0-9]{0,254}"),
}
# The service's filter language has no quoting: a key outside these would break every question for it.
_KEY = re.compile(rf"[A-Za-z0-9_.-]{{1,{LONGEST_KEY}}}")


def check_name(what: str, name: str) -> None:
    """Raises Rejected for a name of a run, experiment or model that the service refuses."""
    if not _NAMES[what].fullmatch(name):
        raise Rejected(
            f"Azure ML takes no {what} named {name[:80]!r}",
            reason="NameNotAllowed",
            fix="use letters, digits, '_' and '-' (in a model's name also '.'), beginning with a letter or digit",
        )


def check_entries(what: str, entries: Mapping[str, str], together: int = 0) -> None:
    """Raises Rejected for tags or properties (`what`) that the service refuses; `together` is their number with
    those that are there, which are somebody else's choice."""
    if max(len(entries), together) > MOST_ENTRIES:
        raise Rejected(
            f"Azure ML takes {MOST_ENTRIES} {what}, these are {max(len(entries), together)}",
            reason="TooManyEntries",
            fix=f"have fewer {what} on one object",
        )
    for key, value in entries.items():
        if not _KEY.fullmatch(key):
            raise Rejected(
                f"Azure ML can't be asked for {what} named {key[:80]!r}",
                reason="NameNotAllowed",
                fix=f"use letters, digits, '_', '.' and '-', at most {LONGEST_KEY}",
            )
        if len(value) > LONGEST_VALUE:
            raise Rejected(
                f"the value of {key} is longer than the {LONGEST_VALUE} characters that Azure ML takes",
                reason="ValueTooLong",
                fix="shorten it",
            )


def check_run(run: TrackedRun) -> None:
    """Raises Rejected for a run that the service would take in part, or not at all."""
    check_name("run", run.id)
    check_name("experiment", run.experiment)
    check_metrics(run.metrics.keys() | {point.name for point in run.history})
    for name, value in [*run.metrics.items(), *((point.name, point.value) for point in run.history)]:
        if not math.isfinite(value):
            raise Rejected(f"metric {name} is not a finite number", reason="NotANumber", fix="leave it out")


def check_metrics(names: Collection[str]) -> None:
    """Raises Rejected for names of metrics that the service refuses."""
    if len(names) > MOST_METRICS:
        raise Rejected(
            f"Azure ML takes {MOST_METRICS} metrics of a run, these are {len(names)}",
            reason="TooManyMetrics",
            fix="declare fewer metrics in the experiment",
        )
    for name in names:
        if not 0 < len(name) <= LONGEST_METRIC or not name.isprintable():
            raise Rejected(
                f"Azure ML takes no metric named {name[:80]!r}",
                reason="NameNotAllowed",
                fix=f"use 1 to {LONGEST_METRIC} printable characters",
            )
