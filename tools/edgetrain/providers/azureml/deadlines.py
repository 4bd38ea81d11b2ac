"""How long a run may be kept waiting by Azure ML, and what is done about one that is overdue.

Azure ML ends by itself only what runs for too long: one that stays queued, or never comes to its end there, would
be waited for without end. It is cancelled, and given up when even that comes to nothing.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from edgetrain.core.errors import Conflict, Denied, NotFound, Rejected
from edgetrain.providers.azureml.submission import MARGIN_SECONDS, TIMEOUT_TAG, Record, Submissions

# When it was found overdue, and why.
OVERDUE_TAG = "edgetrain.overdue"
RUNNING = frozenset({"Running", "Finalizing", "CancelRequested"})
# Of a run whose tags do not say its own: a crash may have come before them.
LONGEST_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Patience:
    """Seconds: beyond a run's own time-out until it begins; in `Finalizing`; after it was cancelled for that."""

    queue: float = 3600.0
    finalizing: float = 15 * 60.0
    grace: float = 10 * 60.0


PATIENCE = Patience()


class Deadlines:
    """The deadlines of one target's runs."""

    def __init__(self, submissions: Submissions, patience: Patience) -> None:
        self._submissions, self._patience = submissions, patience
        self._seen: dict[tuple[str, str], float] = {}

    def passed(self, run_id: str, record: Record) -> str:
        """Why a run that is not over is overdue, in words; empty if it is not."""
        now, limit = time.time(), _seconds(record.tags.get(TIMEOUT_TAG, ""))
        first = self._seen.setdefault((run_id, record.status), now)
        made = _moment(record.created) or first
        if record.status not in RUNNING:
            allowed = limit + self._patience.queue
            late, what = now - made > allowed, "start"
        else:
            allowed = limit + MARGIN_SECONDS + self._patience.finalizing
            late, what = now - (_moment(record.started) or made) > allowed, "finish"
            if not late and record.status == "Finalizing":
                allowed = self._patience.finalizing
                late = now - first > allowed
        return f"Azure ML did not {what} the run within {allowed:.0f} s ({record.status[:40]})" if late else ""

    def given_up(self, run_id: str, record: Record) -> bool:
        """Ensure that a run which is overdue is cancelled; whether it is waited for no more all the same."""
        told = record.tags.get(OVERDUE_TAG, "")
        if not told and (message := self.passed(run_id, record)):
            told = f"{datetime.now(UTC).isoformat(timespec='seconds')} {message}"
        if not told:
            return False
        if record.status != "CancelRequested":
            # Whoever may only read sees it wait; one that can't be cancelled is given up later.
            with suppress(Denied, Conflict, Rejected, NotFound):
                self._submissions.cancel(run_id, told, OVERDUE_TAG)
        elif OVERDUE_TAG not in record.tags:
            with suppress(Denied):
                self._submissions.tag(run_id, {OVERDUE_TAG: told})
        since = _moment(told.partition(" ")[0])
        return since is None or time.time() - since > self._patience.grace


def why(record: Record) -> str:
    """Why the run was found overdue; empty if it was not."""
    return record.tags.get(OVERDUE_TAG, "").partition(" ")[2]


def _moment(time: str | None) -> float | None:
    try:
        return datetime.fromisoformat(time).timestamp() if time else None
    except ValueError:
        return None


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else LONGEST_SECONDS
