"""Garbage collection: what at a site no version, proposal, wanted run or young run names any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from edgetrain.core.digest import SHA256
from edgetrain.core.errors import Conflict, ProviderError
from edgetrain.core.planner import wanted_runs
from edgetrain.core.planner.proposals import BRANCH_PREFIX
from edgetrain.core.ports import Compute
from edgetrain.core.record import RunRecord
from edgetrain.core.recorded import Recorded
from edgetrain.reconcile.lookup import read_main
from edgetrain.reconcile.observe import TICKETS, read_claims
from edgetrain.reconcile.planning import checked, open_site
from edgetrain.reconcile.resubmit import AGAIN
from edgetrain.reconcile.scoring import SCORING, SCORINGS
from edgetrain.reconcile.site import Site, served
from edgetrain.reconcile.state import State
from edgetrain.render.runs import Collection, Item
from edgetrain.repo.ledger import Ledger, Machine
from edgetrain.repo.load import MAX_LOCK_BYTES
from edgetrain.repo.reader import read

LOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Found:
    """One thing that can go, and how."""

    item: Item
    remove: Callable[[], object]


@dataclass(frozen=True)
class Sorted:
    """A site's things, by what is to become of them."""

    garbage: tuple[Found, ...]
    kept: Mapping[str, int]
    unknown: Mapping[str, int]


def collect(root: Path, asked: str | None, keep_days: int, delete: bool, now: datetime) -> Collection:
    """Sort what lies at the site, and (`delete`) remove what nothing names. `now` has a time zone.

    Raises InvalidFiles if main has problems, for then it is not clear what it names; Conflict if a run is
    just being finished.
    """
    state = checked(read_main(root, refresh=True))
    site = open_site(state, asked)
    since = now - timedelta(days=keep_days)
    found = sort(state, site, since)
    if delete and found.garbage:
        tickets = set(read_claims(site.artifacts, TICKETS))
        with _finishing_held_off(site, tickets):
            # What was recorded, proposed or started while we looked counts too.
            state = checked(read_main(root, refresh=True))
            if set(read_claims(site.artifacts, TICKETS)) - tickets:
                raise Conflict("a run was started meanwhile", reason="RunStarted", fix="run edgetrain gc again")
            found = sort(state, site, since)
            for each in found.garbage:
                each.remove()
    return Collection(tuple(each.item for each in found.garbage), found.kept, found.unknown, delete)


@contextmanager
def _finishing_held_off(site: Site, tickets: set[str]) -> Iterator[None]:
    """Keep apply from storing outputs meanwhile: it would not store again what is about to go."""
    with ExitStack() as stack:
        for name in sorted(tickets):
            stack.enter_context(site.artifacts.lock(f"run/{name}", timeout=LOCK_SECONDS))
        yield


def sort(state: State, site: Site, since: datetime) -> Sorted:
    """What to do with each thing at the site."""
    tickets = read_claims(site.artifacts, TICKETS)
    busy = bool(tickets) or bool(read_claims(site.artifacts, SCORINGS))
    kept: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    garbage = [
        *_artifacts(state, site, since, kept, unknown),
        *_environments(state, site, since, busy, kept, unknown),
        *_run_folders(state, site, tickets, kept, unknown),
        *_logs(state, site, since, kept, unknown),
    ]
    return Sorted(tuple(garbage), dict(kept), dict(unknown))


# --- artifacts ---------------------------------------------------------------------------------------


def _artifacts(
    state: State, site: Site, since: datetime, kept: Counter[str], unknown: Counter[str]
) -> Iterator[Found]:
    reasons = named_by(state, since, open_versions(state))
    runs = {digest: run for run in state.recorded.runs for digest in digests_of(run.data["outputs"])}
    store = site.artifacts
    for digest, size in list(store.digests()):
        if digest in reasons:
            kept[f"artifacts of {reasons[digest]}"] += 1
        elif digest in runs:
            why = f"run {runs[digest].run_id} ended {runs[digest].data.get('ended')}"
            yield Found(Item("artifact", digest, size, why), partial(store.delete, digest))
        else:
            unknown["artifacts"] += 1


def named_by(state: State, since: datetime, proposed: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Every digest that is still named, and by what; the strongest reason wins."""
    desired, recorded = state.desired, state.recorded
    wanted = {want.last.digest for want in wanted_runs(desired, recorded, None) if want.last}
    found: dict[str, str] = {}

    def keep(outputs: Any, why: str) -> None:
        for digest in digests_of(outputs):
            found.setdefault(digest, why)

    for version in desired.versions.values():
        keep(version.spec.get("artifacts", {}), "model versions")
        keep(_outputs(recorded, version.record), "model versions")
    for spec in proposed:
        keep(spec.get("artifacts"), "open proposals")
        run = spec.get("run")
        keep(_outputs(recorded, str(run.get("record"))) if isinstance(run, Mapping) else {}, "open proposals")
    for run_ in recorded.runs:
        if run_.digest in wanted:
            keep(run_.data["outputs"], "runs that main wants")
        elif young(run_, since):
            keep(run_.data["outputs"], "young runs")
    return found


def _outputs(recorded: Recorded, record: str) -> Mapping[str, Any]:
    run = recorded.run(record)
    outputs: Mapping[str, Any] = run.data["outputs"] if run else {}
    return outputs


def digests_of(outputs: Any) -> Iterator[str]:
    """All digests in a block of outputs or artifacts: of each output, and of its files."""
    for entry in outputs.values() if isinstance(outputs, Mapping) else ():
        if isinstance(entry, Mapping):
            files = entry.get("files")
            for part in (entry, *(files if isinstance(files, list | tuple) else ())):
                digest = part.get("digest") if isinstance(part, Mapping) else None
                if isinstance(digest, str) and SHA256.fullmatch(digest):
                    yield digest


def young(run: RunRecord, since: datetime) -> bool:
    """Whether the run ended after `since`; one that does not say when counts as young."""
    ended = moment(run.data.get("ended"))
    return ended is None or ended >= since


def moment(text: object) -> datetime | None:
    """An RFC 3339 time; None if it is none."""
    try:
        found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else None


def open_versions(state: State) -> list[Mapping[str, Any]]:
    """The `spec` of each version that is proposed now; the remote is asked."""
    machine = state.desired.configuration.machine
    ledger = Ledger(state.git, state.desired.configuration.branch, Machine(machine.name, machine.email))
    found = []
    for branch, sha in ledger.proposals(BRANCH_PREFIX).items():
        model, _, number = branch.removeprefix(BRANCH_PREFIX).rpartition("-")
        data = state.git.show(sha, f"models/{model}/versions/{number}.yaml")
        document = read(data, branch)[0] if data is not None else None
        spec = document.data.get("spec") if document else None
        if isinstance(spec, Mapping):
            found.append(spec)
    return found


# --- environments, run folders, logs -----------------------------------------------------------------


def _environments(
    state: State, site: Site, since: datetime, busy: bool, kept: Counter[str], unknown: Counter[str]
) -> Iterator[Found]:
    """Environments are rebuilt when needed, so age and use alone decide. Targets may share a store."""
    wanted = set(_environments_wanted(state))
    seen: set[str] = set()
    for target, compute in _targets(state, site):
        try:
            used = {compute.environment(*environment) for environment in wanted}
            found = [environment for environment in compute.environments() if environment.id not in seen]
        except ProviderError:
            unknown[f"environments on {target}, which could not be asked"] += 1
            continue
        for environment in found:
            seen.add(environment.id)
            built = moment(environment.built)
            if environment.id in used:
                kept["environments of experiments"] += 1
            elif busy or built is None or built >= since:
                kept["environments that are young, or may be in use"] += 1
            else:
                item = Item("environment", environment.id[:12], environment.size, "no experiment uses it")
                yield Found(item, partial(compute.drop_environment, environment.id))


def _environments_wanted(state: State) -> Iterator[tuple[bytes, str | None, str]]:
    """Lock, base image and Python of every experiment; and of one without packages."""
    yield b"", None, ""
    for experiment in state.desired.experiments.values():
        lock = state.tree.read(experiment.lock_path, MAX_LOCK_BYTES) if experiment.lock_path else b""
        yield lock, experiment.environment.image, experiment.environment.python or ""
        model = state.desired.models.get(experiment.model)
        own = model.evaluation.environment if model and model.evaluation else None
        if model and own:
            lock = state.tree.read(model.evaluation_lock, MAX_LOCK_BYTES) if model.evaluation_lock else b""
            image, python = own.image or experiment.environment.image, own.python or experiment.environment.python
            yield lock, image, python or ""


def _targets(state: State, site: Site) -> Iterator[tuple[str, Compute]]:
    for name, target in sorted(state.desired.targets.items()):
        if target.site == site.name and target.type in served()["compute"]:
            yield name, site.compute(target)


def _run_folders(
    state: State,
    site: Site,
    tickets: Mapping[str, Any],
    kept: Counter[str],
    unknown: Counter[str],
) -> Iterator[Found]:
    """What targets still hold of runs whose record is written."""
    done = {run.run_id for run in state.recorded.runs}
    scorings = {str(facts["name"]).rpartition("-")[0] for facts in read_claims(site.artifacts, SCORINGS).values()}
    seen: set[str] = set()
    for target, compute in _targets(state, site):
        try:
            names = [name for name in compute.runs() if name not in seen]
        except ProviderError:
            unknown[f"runs on {target}, which could not be asked"] += 1
            continue
        seen.update(names)
        for name in names:
            if name in tickets or name.rpartition("-")[0] in scorings:
                kept["runs under way"] += 1
            elif AGAIN.fullmatch(name):
                kept["runs that the next `edgetrain reproduce` takes up"] += 1
            elif name in done:
                why = f"recorded, and left on {target}"
                yield Found(Item("run folder", name, None, why), partial(compute.forget, name))
            else:
                unknown["run folders"] += 1


def _logs(state: State, site: Site, since: datetime, kept: Counter[str], unknown: Counter[str]) -> Iterator[Found]:
    runs = {f"{run.run_id}.log": run for run in state.recorded.runs}
    for file in _entries(site.state / "logs"):
        run = runs.get(file.name)
        if SCORING.fullmatch(file.name.removesuffix(".log")) and not file.is_symlink():
            if datetime.fromtimestamp(file.lstat().st_mtime, UTC) >= since:
                kept["logs of young evaluations"] += 1
            else:
                item = Item("log", file.name, file.lstat().st_size, "an old evaluation's")
                yield Found(item, partial(file.unlink, missing_ok=True))
        elif run is None or file.is_symlink():
            unknown["logs"] += 1
        elif young(run, since):
            kept["logs of young runs"] += 1
        else:
            size = file.lstat().st_size
            item = Item("log", file.name, size, f"the run ended {run.data.get('ended')}")
            yield Found(item, partial(file.unlink, missing_ok=True))


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
