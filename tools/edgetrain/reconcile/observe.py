"""Looks at the world, and only at what the desired state needs to be compared with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgetrain.core.desired import Desired
from edgetrain.core.digest import SHA256
from edgetrain.core.errors import ProviderError, RepositoryError
from edgetrain.core.kinds import ComputeTarget
from edgetrain.core.kinds.experiment import LATEST
from edgetrain.core.observation import Attached, Observation
from edgetrain.core.plan import Operation
from edgetrain.core.planner.attachments import owner_of
from edgetrain.core.planner.proposals import BRANCH_PREFIX
from edgetrain.core.planner.runs import judged_anew
from edgetrain.core.planner.wanted import Wanted, wanted_runs
from edgetrain.core.ports import (
    ArtifactStore,
    CheckStatus,
    DataDigest,
    EgressLevel,
    TargetStatus,
    WantedAttachment,
)
from edgetrain.core.record import SETTLED, Outcome
from edgetrain.core.recorded import Recorded
from edgetrain.reconcile.data import measure_input
from edgetrain.reconcile.keys import refuse_shared
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.workers import Workers
from edgetrain.repo.git import Git
from edgetrain.repo.ledger import Ledger
from edgetrain.repo.reader import read

TICKETS = "tickets/"
RETRIES = "retries/"
GIVEN_UP = "given-up/"
MAX_ASKED = 16


def observe(
    desired: Desired, recorded: Recorded, site: Site, git: Git, ledger: Ledger, training: bool = True
) -> Observation:
    """Ask every provider that something hangs on; without `training` no target and no data.

    Raises ProviderError if one can't be asked.
    """
    tickets = read_claims(site.artifacts, TICKETS)
    retries = read_claims(site.artifacts, RETRIES)
    every = wanted_runs(desired, recorded, None) if training else ()
    wanted = [want for want in every if _here(desired, want, site)]
    open_wanted = [want for want in wanted if _open(want, retries)]
    scored = [want for want in wanted if not _open(want, retries) and _to_score(desired, recorded, want)]
    released = [release for release in recorded.releases if release.event == "released"]
    merged = sorted({model for model, _ in desired.versions} | {release.model for release in released})
    repositories = sorted({(r.data["image"]["registry"], r.data["image"]["repository"]) for r in released})
    targets = _targets(desired, [*open_wanted, *scored], site)
    return Observation(
        targets=targets,
        data=_data(desired, open_wanted, targets, site),
        tickets={name: ticket for name, ticket in tickets.items() if ticket["site"] == site.name},
        retries=retries,
        workspace=dict(site.workspace.observe(merged)) if merged else {},
        tags={(registry, name): site.registry(registry).tags(name) for registry, name in repositories},
        images=frozenset(
            (image["registry"], image["repository"], image["digest"])
            for image in (release.data["image"] for release in released)
            if site.registry(image["registry"]).has(image["repository"], image["digest"], lately=True)
        ),
        proposals=open_proposals(git, ledger, site),
        attachments=look_at_attachments(desired, site) if training else None,
    )


def read_claims(artifacts: ArtifactStore, prefix: str) -> dict[str, dict[str, Any]]:
    """Claims under the prefix, by the rest of their names."""
    return {name.removeprefix(prefix): json.loads(value) for name, value in artifacts.claims(prefix)}


def _open(want: Wanted, retries: Iterable[str]) -> bool:
    """Whether the run may have to be started; looser than the planner, which decides."""
    last = want.last
    return last is None or last.outcome is Outcome.LOST or last.outcome not in SETTLED or bool(list(retries))


def _to_score(desired: Desired, recorded: Recorded, want: Wanted) -> bool:
    """Whether a recorded run's model is to be evaluated on a target."""
    change = judged_anew(desired, recorded, want)
    return change is not None and change.operation is Operation.SCORE


def _here(desired: Desired, want: Wanted, site: Site) -> bool:
    return any(target.site == site.name for target in desired.targets_for(want.experiment))


def _targets(desired: Desired, wanted: Sequence[Wanted], site: Site) -> dict[str, TargetStatus]:
    """Each target that a run may need, side by side; one that can't be asked is not ready, and the rest goes on."""
    targets = {
        target.metadata.name: target
        for want in wanted
        for target in desired.targets_for(want.experiment)
        if target.site == site.name
    }
    if not targets:
        return {}
    with Workers(max_workers=MAX_ASKED, thread_name_prefix="observe") as pool:
        return dict(zip(targets, pool.map(lambda target: _status(site, target), targets.values()), strict=True))


def _status(site: Site, target: ComputeTarget) -> TargetStatus:
    """How the target is; one that fails a cheap check of `edgetrain doctor` gets no run."""
    try:
        compute = site.compute(target)
        status = compute.observe()
        if status.ready:
            for check in compute.diagnose(cheap=True):
                if check.status is CheckStatus.FAIL:
                    message = "; ".join(filter(None, (check.message, check.fix)))
                    return replace(status, ready=False, reason=check.reason, message=message)
        return status
    except ProviderError as error:
        return TargetStatus(
            ready=False,
            egress=EgressLevel.ADVISORY,
            python="",
            platform="",
            reason=error.reason,
            message="; ".join(filter(None, (error.message, error.fix))),
        )


def look_at_attachments(desired: Desired, site: Site) -> Attached | None:
    """What the workspace has attached, and the datastores it knows, in a list of each; a target whose key can't be
    read keeps the rest going."""
    if site.attachments is None:
        return None
    wanted: dict[str, WantedAttachment] = {}
    faults: dict[str, str] = {}
    for name, target in sorted(desired.targets.items()):
        if target.attached and not target.metadata.retired and target.site == site.name:
            try:
                refuse_shared(desired, site, target)
                wanted[name] = site.attachments.wanted(site.target_settings(target), target.type)
            except ProviderError as error:
                faults[name] = "; ".join(filter(None, (error.message, error.fix)))
    owner = owner_of(site.configuration, site.name)
    return Attached(
        owner, site.attachments.attached(), wanted, faults, site=site.name, datastores=site.attachments.datastores()
    )


def _data(
    desired: Desired, wanted: Sequence[Wanted], targets: Mapping[str, TargetStatus], site: Site
) -> dict[tuple[str, str], DataDigest]:
    """Digests of `latest` inputs that no run has observed yet; what can't be read stays unknown."""
    found: dict[tuple[str, str], DataDigest] = {}
    for want in wanted:
        for source in want.experiment.data.values():
            key = (source.datastore, source.path)
            unknown = source.digest == LATEST and want.of["inputs"][source.name] is None
            if unknown and key not in found and source.datastore in site.settings.datastores:
                ready = [
                    target
                    for target in desired.targets_for(want.experiment)
                    if target.metadata.name in targets and targets[target.metadata.name].ready
                ]
                try:
                    found[key], _ = measure_input(site, next(iter(ready), None), source)
                except ProviderError:
                    continue  # the run itself says what is wrong with its data, with the reason
    return found


def open_proposals(git: Git, ledger: Ledger, site: Site, *, sure: bool = False) -> dict[str, str]:
    """Each open proposal's branch, and the digest of the run record that its version cites.

    With a forge a proposal is open while its pull request is: a branch that was left behind by one that people
    closed is none. If the forge can't be asked, none counts as open, so that nothing of them is moved on; if it is
    to be `sure`, that raises ProviderError.
    """
    branches = ledger.proposals(BRANCH_PREFIX)
    if site.configuration.forge is not None:
        asked = _asked_for(site, sure=sure)
        branches = {branch: sha for branch, sha in branches.items() if branch in asked}
    found = {}
    for branch, sha in branches.items():
        model, _, number = branch.removeprefix(BRANCH_PREFIX).rpartition("-")
        found[branch] = _cited(git, sha, f"models/{model}/versions/{number}.yaml")
    return found


def _cited(git: Git, commit: str, path: str) -> str:
    """The run record that the version there cites; empty for anything else: people may push to these branches, and
    what they write must not keep the site from its work."""
    try:
        data = git.show(commit, path)
    except RepositoryError as error:
        if error.reason != "FileTooLarge":
            raise
        return ""
    document = read(data, path)[0] if data is not None else None
    value: Any = document.data if document else None
    for key in ("spec", "run", "record"):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) and SHA256.fullmatch(value) else ""


def _asked_for(site: Site, *, sure: bool) -> set[str]:
    """The machine's branches with an open pull request."""
    try:
        return {pull.branch for pull in site.forge.open_pull_requests(BRANCH_PREFIX)} if site.forge else set()
    except ProviderError:
        if sure:
            raise
        return set()
