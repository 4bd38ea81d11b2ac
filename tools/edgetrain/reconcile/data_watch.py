"""Looks at the data that experiments read, where it lies, and proposes the digest of what changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgetrain.core.digest import digest_of, short
from edgetrain.core.errors import EdgetrainError, ProviderError, Rejected, RepositoryError, UsageError
from edgetrain.core.kinds import Experiment
from edgetrain.core.kinds.experiment import DataInput
from edgetrain.core.planner.wanted import digest_meant, wanted_runs
from edgetrain.core.ports import DataDigest, PullRequest
from edgetrain.core.problem import did_you_mean, shown
from edgetrain.providers.durable import storage_error
from edgetrain.reconcile.context import no_step
from edgetrain.reconcile.data import measure_input
from edgetrain.reconcile.lookup import read_main
from edgetrain.reconcile.planning import checked, open_site
from edgetrain.reconcile.remote import connect
from edgetrain.reconcile.report import Event, Report
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.state import State, open_ledger
from edgetrain.render.data_proposal import DataProposal, proposal_body, proposal_title
from edgetrain.render.data_watch import DataWatch, Moved, Row
from edgetrain.repo.edit import put
from edgetrain.repo.ledger import Ledger

BRANCHES = "edgetrain/data/"
# What was proposed already, in the site's store: a proposal that people close does not come back by itself.
PROPOSED = "proposed-data/"
LABEL = "edgetrain"


def watch_data(
    root: Path,
    names: Sequence[str],
    asked: str | None,
    report: Report,
    step: Callable[[str], None] = no_step,
) -> DataWatch:
    """Look from one site at the data of the named experiments, or of all that may run there. A named one is
    proposed again although people closed its proposal. `step` is called before each effect.

    Raises InvalidFiles, UsageError, RepositoryError or ProviderError before anything was done; what fails for one
    experiment is in its row.
    """
    state = checked(read_main(root, refresh=True))
    site = open_site(state, asked)
    connect(state.git, site)
    ledger = open_ledger(state, step, lambda text: report(Event("Note", "git", text)))
    watch = _Watch(state, site, ledger, report, frozenset(names), step)
    rows = [watch.row(experiment) for experiment in _chosen(state, site, names)]
    if not names:
        rows += watch.forgotten()
    return DataWatch(site.name, state.commit, tuple(rows))


def _chosen(state: State, site: Site, names: Sequence[str]) -> list[Experiment]:
    known = {name: one for name, one in sorted(state.desired.experiments.items()) if _read_here(state, site, one)}
    for name in names:
        if name not in known:
            raise UsageError(
                f"no experiment {shown(name)!r} reads data at site {site.name}{did_you_mean(name, known)}",
                fix=f"one of: {', '.join(known) or 'none yet'}",
            )
    return [one for name, one in known.items() if not names or name in names]


def _read_here(state: State, site: Site, experiment: Experiment) -> bool:
    """Whether it may run at the site, and reads data there."""
    model = state.desired.models.get(experiment.model)
    wanted = not experiment.metadata.retired and model is not None and not model.metadata.retired
    here = any(target.site == site.name for target in state.desired.targets_for(experiment))
    return wanted and here and bool(experiment.data)


@dataclass
class _Watch:
    """One look. `asked` are the experiments that a person named."""

    state: State
    site: Site
    ledger: Ledger
    report: Report
    asked: frozenset[str]
    step: Callable[[str], None]
    _seen: dict[tuple[str, str, str], DataDigest] = field(default_factory=dict)

    def row(self, experiment: Experiment) -> Row:
        """Look at one experiment's data and do what follows; what fails is told."""
        name = experiment.name
        try:
            with self.site.artifacts.lock(f"data/{name}"):
                row = self._watched(experiment)
        except (EdgetrainError, OSError) as error:
            told = error if isinstance(error, EdgetrainError) else storage_error(error, "looking at the data")
            row = Row(name, "failed", reason=told.reason, message=told.message, fix=told.fix)
        self.report(Event("Watched", name, row.state))
        return row

    def _watched(self, experiment: Experiment) -> Row:
        moved: list[Moved] = []
        seen = False
        for source in experiment.data.values():
            old = digest_meant(source, self.state.recorded.runs_of(experiment.name))
            if old is None:
                continue
            seen = True
            new = self._measured(experiment, source)
            if new.digest != old:
                moved.append(self._moved(experiment, source, old, new))
        if moved:
            return self._changed(experiment, tuple(moved))
        closed = self._settle(experiment.name)
        return Row(experiment.name, "withdrawn" if closed else "same" if seen else "unseen")

    # --- looking -----------------------------------------------------------------------------------------

    def _measured(self, experiment: Experiment, source: DataInput) -> DataDigest:
        """The digest, made by a target of the site if one can, so that no data moves."""
        key = (source.datastore, source.path, source.type)
        if key not in self._seen:
            self.report(Event("Measuring", f"{source.datastore}:{source.path}"))
            self._seen[key] = self._measure(experiment, source)
        found = self._seen[key]
        if found.files == 0:
            raise Rejected(
                f"{source.datastore}:{source.path} holds no file at all, which is taken for a fault",
                reason="DataEmpty",
                fix="check that the disk is mounted and the path is right; write the digest by hand if it is so",
            )
        return found

    def _measure(self, experiment: Experiment, source: DataInput) -> DataDigest:
        fault: ProviderError | None = None
        for target in self.state.desired.targets_for(experiment):
            if target.site == self.site.name and not target.metadata.retired:
                try:
                    return measure_input(self.site, target, source)[0]
                except ProviderError as error:
                    fault = fault or error
        if fault is not None:
            raise fault
        return measure_input(self.site, None, source)[0]

    def _moved(self, experiment: Experiment, source: DataInput, old: str, new: DataDigest) -> Moved:
        before: Mapping[str, Any] = next(
            (
                entry
                for run in reversed(self.state.recorded.runs_of(experiment.name))
                if (entry := run.data["inputs"].get(source.name)) and entry["digest"] == old
            ),
            {},
        )
        where = f"{source.datastore}:{source.path}"
        counts = before.get("files"), before.get("bytes")
        return Moved(source.name, where, old, new.digest, new.files, new.bytes, *counts)

    # --- proposing ---------------------------------------------------------------------------------------

    def _changed(self, experiment: Experiment, moved: tuple[Moved, ...]) -> Row:
        path = experiment.document.path
        now = self.state.tree.read(path)
        new = now
        for one in moved:
            new = put(new, path, ("spec", "inputs", one.name, "digest"), one.new, after="path")
        found = DataProposal(
            experiment=experiment.name,
            path=path,
            model=experiment.model,
            site=self.site.name,
            runs=self._to_train(experiment, moved),
            inputs=moved,
        )
        trailers = [("Experiment", experiment.name), *(("Data", f"{one.name} {one.new}") for one in moved)]
        if all(experiment.data[one.name].on_change == "train" for one in moved):
            self.ledger.commit({path: new}, proposal_title(found), trailers=trailers, replaces={path: now})
            self._settle(experiment.name)
            return Row(experiment.name, "committed", moved)
        return self._proposed(found, {path: new}, {path: now}, trailers)

    def _to_train(self, experiment: Experiment, moved: tuple[Moved, ...]) -> int:
        """How many runs the new digests want that no record settles."""
        data = dict(experiment.data)
        data |= {one.name: replace(data[one.name], digest=one.new) for one in moved}
        desired = self.state.desired
        experiments = {experiment.name: replace(experiment, data=data)}
        wanted = wanted_runs(replace(desired, experiments=experiments), self.state.recorded, None)
        return sum(want.last is None for want in wanted)

    def _proposed(
        self,
        found: DataProposal,
        files: dict[str, bytes],
        replaces: dict[str, bytes],
        trailers: list[tuple[str, str]],
    ) -> Row:
        name, branch = found.experiment, f"{BRANCHES}{found.experiment}"
        claim = f"{PROPOSED}{name}/{short(digest_of({one.name: one.new for one in found.inputs}))}"
        claims = self._claims(name)
        if claim in claims and name not in self.asked and not self._is_open(branch):
            fix = f"to propose it again: edgetrain propose --data {name}"
            return Row(name, "left", found.inputs, fix=fix)
        title = proposal_title(found)
        self.ledger.propose(branch, files, title, trailers=trailers, replaces=replaces)
        pull = self._ask(found, branch, title)
        # Only now: an apply that is killed before has asked nobody, so the next one does.
        self.step("claim")
        self.site.artifacts.claim(claim, branch.encode())
        for other in claims - {claim}:
            self.site.artifacts.release_claim(other)
        return Row(name, "proposed", found.inputs, branch, pull.url if pull else "")

    def _ask(self, found: DataProposal, branch: str, title: str) -> PullRequest | None:
        if self.site.forge is None:
            return None
        owners = self.state.desired.experiments[found.experiment].metadata.owners
        # Owners that are no accounts (an address, a department) can't be asked.
        logins = [owner.removeprefix("@") for owner in owners if owner.startswith("@")]
        self.step("pull-request")
        return self.site.forge.propose(branch, title, proposal_body(found), logins, [LABEL])

    def _is_open(self, branch: str) -> bool:
        """Whether people have not closed the proposal; without a forge they do so by deleting the branch."""
        if self.site.forge is None:
            return self.ledger.proposal(branch) is not None
        return bool(self._pulls(branch))

    def _pulls(self, branch: str) -> list[PullRequest]:
        forge = self.site.forge
        return [pull for pull in forge.open_pull_requests(branch) if pull.branch == branch] if forge else []

    def _claims(self, experiment: str) -> set[str]:
        return {name for name, _ in self.site.artifacts.claims(f"{PROPOSED}{experiment}/")}

    # --- closing -----------------------------------------------------------------------------------------

    def _settle(self, experiment: str) -> bool:
        """Ensure that nothing is proposed any more; whether something was."""
        branch = f"{BRANCHES}{experiment}"
        pulls = self._pulls(branch)
        for pull in pulls:
            self.step("close")
            if self.site.forge is not None:
                self.site.forge.close(pull.number)
        there = self.ledger.proposal(branch) is not None
        if there:
            self.ledger.withdraw(branch)
        for claim in self._claims(experiment):
            self.step("release-claim")
            self.site.artifacts.release_claim(claim)
        return bool(pulls) or there

    def forgotten(self) -> list[Row]:
        """Close the proposals of experiments that nobody wants any more."""
        desired, rows = self.state.desired, []
        for branch in self.ledger.proposals(BRANCHES):
            name = branch.removeprefix(BRANCHES)
            experiment = desired.experiments.get(name)
            wanted = experiment is not None and experiment.model in desired.models
            if experiment is not None and wanted:
                retired = experiment.metadata.retired or desired.models[experiment.model].metadata.retired
                if not retired:
                    continue
            try:
                self._settle(name)
                rows.append(Row(name, "withdrawn"))
            except (ProviderError, RepositoryError) as error:
                rows.append(Row(name, "failed", reason=error.reason, message=error.message, fix=error.fix))
        return rows
