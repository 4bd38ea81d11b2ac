"""Tells of models from git alone: versions and channels now, and what happened, in the order of main's history."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgetrain.core.record import EvaluationRecord, ProposalRecord, Record, ReleaseRecord, RunRecord
from edgetrain.core.recorded import Recorded
from edgetrain.reconcile.hands import hands_of, recorded_hand
from edgetrain.reconcile.lookup import model_names, no_model, open_branches, read_events, read_models
from edgetrain.reconcile.main_branch import MainBranch
from edgetrain.reconcile.state import State
from edgetrain.render.gates import gates_of
from edgetrain.render.hands import Hand, approvers, hand_rows, proposer
from edgetrain.render.models import Happening, Overview, Proposal, Version
from edgetrain.repo.readings import Readings

_VERSION_FILE = re.compile(r"models/([^/]+)/versions/(\d+)\.yaml")


def models(main: MainBranch, name: str | None = None) -> list[Overview]:
    """All models, or one. Raises UsageError for an unknown one."""
    state = read_models(main, name)
    if main.readings:
        main.readings.save(state.tree.exists)
    known = model_names(state.desired, state.loaded.broken)
    return [_overview(state, found) for found in (sorted(known) if name is None else [_known(state, name)])]


def _known(state: State, name: str) -> str:
    """Of a model whose manifest can't be read, or is gone, there are facts to tell, too."""
    known = {*model_names(state.desired, state.loaded.broken), *(run.model for run in state.recorded.runs)}
    if name not in known:
        raise no_model(state.desired, state.loaded.broken, name)
    return name


def _overview(state: State, name: str) -> Overview:
    desired, recorded, model = state.desired, state.recorded, state.desired.models.get(name)
    folder = f"models/{name}/"
    at = recorded.channels(name)
    versions = []
    for number in sorted(number for owner, number in desired.versions if owner == name):
        version, release = desired.versions[name, number], recorded.release(name, number)
        versions.append(
            Version(
                number=number,
                run=f"{version.experiment}-{version.run}",
                metrics=version.spec.get("metrics", {}),
                source=str(version.spec.get("metricsSource", "")),
                channels=tuple(sorted(channel for channel, to in at.items() if to == number)),
                image=release.data["image"]["digest"] if release else None,
                withdrawn=model.withdrawn.get(number) if model else None,
                hand=_approval(release) if release else None,
            )
        )
    proposals = sorted(
        (number, branch) for branch, (owner, number) in open_branches(state.git, desired).items() if owner == name
    )
    channels = model.channels if model else at
    return Overview(
        name=name,
        description=model.metadata.description if model else "",
        retired=model is not None and model.metadata.retired,
        channels=dict(channels),
        pending=tuple(c for c in sorted({*channels, *at}) if channels.get(c) != at.get(c)),
        versions=tuple(versions),
        proposals=tuple(Proposal(number, branch) for number, branch in proposals),
        moved={
            channel: _approval(move) for channel in sorted(at) if (move := recorded.channel_head(name, channel))
        },
        unread=tuple(
            path for path in sorted(state.loaded.broken) if path.startswith(folder) and state.tree.exists(path)
        ),
    )


def _approval(record: ReleaseRecord) -> Hand:
    return recorded_hand(record.data.get("provenance") or {})


def log(main: MainBranch, name: str) -> tuple[str, list[Happening]]:
    """What happened to the model, oldest first. Raises UsageError for an unknown one."""
    state = read_events(main)
    model = _known(state, name)
    found = [*_records(state, model), *_merges(state, model, main.readings)]
    if main.readings:
        main.readings.save(state.tree.exists)
    return model, [happening for _, happening in sorted(found, key=lambda pair: pair[0])]


Placed = tuple[tuple[int, str], Happening]


def _merges(state: State, model: str, readings: Readings | None) -> Iterator[Placed]:
    machine = state.desired.configuration.machine.email
    versions = {}
    for path in state.added:
        found = _VERSION_FILE.fullmatch(path)
        if found and found[1] == model and state.tree.exists(path):
            versions[path] = found
    hands = hands_of(state, (state.added[path].commit for path in versions), machine, readings)
    for path, found in versions.items():
        addition = state.added[path]
        hand = hands[addition.commit]
        release = state.recorded.release(model, int(found[2]))
        told = _approval(release) if release else hand
        details = _hand(told if told.merge_commit == hand.merge_commit else hand)
        yield (addition.ordinal, path), Happening(addition.time, "merged", f"{model}@{found[2]}", "", details)


def _records(state: State, model: str) -> Iterator[Placed]:
    recorded = state.recorded
    runs = {run.digest: run for run in recorded.runs if run.model == model}
    every: list[Record] = [
        *runs.values(),
        *(e for e in recorded.evaluations if e.run in runs),
        *(p for p in recorded.proposals if p.model == model),
        *(r for r in recorded.releases if r.model == model),
    ]
    for record in every:
        addition = state.added.get(record.path)
        time = addition.time if addition else None
        yield (record.ordinal, record.path), _told(record, recorded, time)


def _told(record: Record, recorded: Recorded, time: str | None) -> Happening:
    data = record.data
    if isinstance(record, RunRecord):
        return Happening(
            time,
            "run",
            record.run_id,
            f"{record.outcome.value}: {data['reason']} {data.get('message', '')}".strip(),
            _hand(recorded_hand(data["provenance"])),
            tuple(gates_of(data["gates"].get("results", ()))),
        )
    if isinstance(record, EvaluationRecord):
        run = recorded.run(record.run)
        return Happening(
            time,
            "judged again",
            run.run_id if run else record.run,
            f"{record.outcome.value}: {data.get('reason', '')} {data.get('message', '')}".strip(),
            gates=tuple(gates_of(data["gates"].get("results", ()))),
        )
    if isinstance(record, ProposalRecord):
        run = recorded.run(record.run)
        where = f", pull request #{record.pull_request}" if record.pull_request else ""
        what = f"from {run.run_id if run else record.run}{where}"
        return Happening(time, "proposed", f"{record.model}@{record.version}", what)
    if isinstance(record, ReleaseRecord):
        return _release(record, time)
    return Happening(time, record.kind, record.path, "")


def _release(record: ReleaseRecord, time: str | None) -> Happening:
    data = record.data
    hand = _hand(_approval(record))
    if record.event == "channel":
        before, after = (f"@{n}" if n is not None else "nothing" for n in (data.get("from"), data.get("to")))
        return Happening(time, "channel", f"{record.model}@{data['channel']}", f"{before} → {after}", hand)
    if record.event == "withdrawn":
        return Happening(time, "withdrawn", f"{record.model}@{record.version}", str(data.get("why", "")), hand)
    if record.event == "registered":
        what = f"number {record.registered_as} in {record.workspace} (before: {data['from']})"
        return Happening(time, "registered", f"{record.model}@{record.version}", what, hand)
    image = data["image"]
    details = (("image", f"{image['repository']}@{image['digest']}"), ("tags", ", ".join(map(str, image["tags"]))))
    return Happening(time, "released", f"{record.model}@{record.version}", "", details)


def _hand(hand: Hand) -> tuple[tuple[str, str], ...]:
    if hand.review is None:
        return (("proposed by", proposer(hand)), ("approved by", approvers(hand)))
    return tuple(row for row in hand_rows(hand) if row[0] != "merge commit")
