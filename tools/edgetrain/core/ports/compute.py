"""The port of a compute target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edgetrain.core.ports.check import Check
from edgetrain.core.ports.data import DataDigest, DataSource
from edgetrain.core.ports.egress import EgressRules, Examination
from edgetrain.core.ports.runs import Harvest, RunSpec, RunState, StoredEnvironment, TargetStatus

if TYPE_CHECKING:
    from pathlib import Path


@runtime_checkable
class Probed(Protocol):
    """What a target's provider keeps besides `Compute` where only a run can see what holds scripts back there. Its
    status is not ready with reason `NotProbed` before, and `Probing` while that run goes on."""

    def probe(self) -> None:
        """Ensure that such a run was submitted for the target as it is declared now; does not wait for it."""


class Compute(Protocol):
    """A place where runs are made. One instance serves one compute target."""

    def observe(self) -> TargetStatus:
        """Look at the target, starting nothing that lasts."""

    def measure(
        self, source: DataSource, single_file: bool = False, progress: Callable[[int], None] | None = None
    ) -> DataDigest | None:
        """Digest an input where the target reads it, as `Datastore.digest` would; what was read is kept there
        for the run. None if the target reads the datastore in place, whose own digest then holds."""

    def start(self, spec: RunSpec) -> None:
        """Start the run detached, unless a run of this id was ever started here. Returns at once.

        The run goes on if the caller dies. Raises Rejected if `require_enforced` can't be met.
        """

    def inspect(self, run_id: str) -> RunState:
        """How the run is now."""

    def cancel(self, run_id: str, reason: str) -> None:
        """End the run and everything it started; it becomes `ENDED` by `cancel`. An ended run stays as it is."""

    def logs(self, run_id: str, follow: bool = False) -> Iterator[str]:
        """The script's output, line by line; with `follow` until the run ends."""

    def harvest(self, run_id: str, outputs: Mapping[str, str]) -> Harvest:
        """Read what an ended run left. `outputs` are the declared ones (name to path): only these, and the
        metrics files, may be in `files` without being a fault."""

    def examine(self, run_id: str, rules: EgressRules) -> Examination:
        """Compare what would leave with the data that the run read (its spec's inputs), at the target, in a
        limited process without a network. Fingerprints are keyed per call and never leave the target."""

    def fetch(self, run_id: str, path: str, into: Path) -> None:
        """Copy one output file (a path that `harvest` named) to the file `into`, never following a link."""

    def forget(self, run_id: str) -> None:
        """Remove what the run left on the target, except that it was started."""

    def diagnose(self, sources: Sequence[DataSource] = (), cheap: bool = False) -> Sequence[Check]:
        """Look at all that a run needs, and at whether the target can read `sources`; `cheap` leaves out
        what takes more than a second or two. Raises nothing: what can't be reached is a check that failed."""

    def runs(self) -> Sequence[str]:
        """The ids of all runs that the target still holds."""

    def environment(self, requirements: bytes, image: str | None = None, python: str = "") -> str:
        """The id that the environment of this lock file has on the target, built or not; in containers, of
        this lock on this base image with its Python."""

    def environments(self) -> Sequence[StoredEnvironment]:
        """The environments that the target keeps; targets that share a store answer the same."""

    def drop_environment(self, environment: str) -> None:
        """Remove an environment that nothing uses; it is built anew when needed. Raises Conflict while it is
        being built."""
