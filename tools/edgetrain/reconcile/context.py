"""What the parts of one apply share: state of the round, site, ledger, progress and the wish to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import RepositoryError
from edgetrain.core.record import parse_record, serialise
from edgetrain.reconcile.report import Event, Report
from edgetrain.reconcile.reviews import approvers
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.state import State
from edgetrain.repo.history import provenance
from edgetrain.repo.ledger import Ledger

FINISHING = 2


def no_step(name: str) -> None:
    """The default step hook: nothing. Fault tests give one that kills the process."""


@dataclass
class Context:
    """One apply. `waits` is false if it only starts runs and leaves them to a later one. `step` is called
    before each effect with the effect's stable name."""

    state: State
    site: Site
    ledger: Ledger
    report: Report
    plan_digest: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    step: Callable[[str], None] = no_step
    waits: bool = True
    # Few are checked and recorded at once, so that the next runs start without delay.
    finishing: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(FINISHING))
    _guard: threading.RLock = field(default_factory=threading.RLock)

    def tell(self, kind: str, subject: str, message: str = "") -> None:
        """Report one event."""
        self.report(Event(kind, subject, message))

    @property
    def scratch(self) -> Path:
        """A folder for things on their way, at the site's state."""
        return self.site.state / "scratch"

    def commit_record(
        self,
        path: str,
        data: dict[str, Any],
        subject: str,
        trailers: Sequence[tuple[str, str]] = (),
        provenance: Mapping[str, Any] | None = None,
    ) -> bool:
        """Commit one record and count with it from now on; False if another apply has written it already.

        `provenance` is of what stands behind the record, if the record does not repeat it.
        """
        content = serialise(data)
        self.step("record")
        behind = provenance if provenance is not None else data.get("provenance") or {}
        try:
            self.ledger.commit({path: content}, subject, trailers=self.trailers(trailers, behind))
        except RepositoryError as error:
            if error.reason != "RecordExists":
                raise
            return False
        with self._guard:
            ordinal = 1 + max((run.ordinal for run in self.state.recorded.runs), default=0)
            self.state = self.state.with_records([parse_record(path, content, max(ordinal, 10**9))])
        return True

    def trailers(self, trailers: Sequence[tuple[str, str]], provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
        """The trailers of a machine's commit: the plan, its own, and who stands behind it."""
        plan = [("Plan", self.plan_digest)] if self.plan_digest else []
        approved = [("Approved-by", str(name)) for name in provenance.get("approvers") or ()]
        return [*plan, *trailers, ("Pull-Request", str(provenance.get("pullRequest") or "")), *approved]


def manifest_digest(context: Context, path: str) -> str:
    """Digest of a manifest's bytes as they stand in the state that is applied."""
    return digest_bytes(context.state.tree.read(path))


def provenance_of(context: Context, commit: str) -> dict[str, Any]:
    """Who proposed and approved what a commit of main brought, as records hold it.

    Where a forge is declared, approvers are those whose reviews count there, and nobody else: whatever trailers
    people wrote. Raises ProviderError if it can't be asked, so that nothing is recorded without its review.
    """
    machine, reviews = context.site.configuration.machine.email, context.site.reviews
    found = provenance(context.state.git, commit, machines=[machine], trailers=reviews is None)
    told: dict[str, Any] = {
        "mergeCommit": found.merge_commit,
        "proposer": found.proposer,
        "approvers": list(found.approvers),
        "pullRequest": found.pull_request,
    }
    if reviews is None:
        return told
    review = reviews.of(commit, found.pull_request)
    if review is None:  # pushed without a pull request
        return {**told, "pullRequest": None}
    return {
        **told,
        "approvers": approvers(review),
        "pullRequest": f"#{review['pullRequest']}",
        "review": dict(review),
    }
