"""Gathers the whole story of a model version from git alone: manifests, records, history, signatures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgetrain.core.decide import version_spec
from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import RepositoryError
from edgetrain.core.kinds import Model, ModelVersion
from edgetrain.core.ports import EgressLevel
from edgetrain.core.record import Record, ReleaseRecord, RunRecord
from edgetrain.core.recorded import Recorded
from edgetrain.reconcile.hands import hand_doubts, hand_of, recorded_hand, release_doubts
from edgetrain.reconcile.lookup import read_main, version_named
from edgetrain.reconcile.state import State
from edgetrain.render.gates import gates_of
from edgetrain.render.hands import Doubt, Hand
from edgetrain.render.story import (
    Artifact,
    Data,
    Left,
    Move,
    Paper,
    Release,
    Source,
    Story,
    Training,
    Withdrawal,
    point,
)
from edgetrain.repo.history import Addition, last_change
from edgetrain.repo.record_history import RecordHistory, record_commits

SIGNERS = ".github/allowed_signers"
SIGNATURES = {
    "none": "the commit that brought it carries no signature",
    "bad": "the signature on the commit that brought it does not hold",
    "unknown": "the signature on the commit that brought it could not be checked",
}


@dataclass(frozen=True)
class Facts:
    """What history knows beside the files. `hands` are by path of the version and model manifests."""

    commit: str
    added: Mapping[str, Addition]
    signatures: Mapping[str, tuple[str, str]]
    signers: bool
    shallow: bool
    version: Hand
    model: Hand
    manifest: str


SHALLOW = (
    "this clone lacks old history: when, by which commit and by whom older things came can't be told here; "
    "git fetch --unshallow, then audit again"
)


def audit(root: Path, text: str) -> Story:
    """The story of `MODEL@NUMBER` (or `MODEL@CHANNEL`) on main as last fetched. Raises UsageError."""
    state = read_main(root)
    version = version_named(state.desired, state.loaded.broken, text)
    return tell(state.desired, state.recorded, version, gather(state, version))


def gather(state: State, version: ModelVersion) -> Facts:
    """Ask git's history."""
    git, path = state.git, version.document.path
    try:
        signers: bytes | None = state.tree.read(SIGNERS)
    except RepositoryError:
        signers = None
    machine = state.desired.configuration.machine.email
    addition = state.added.get(path)
    model = last_change(git, state.commit, state.desired.models[version.model].path)
    return Facts(
        commit=state.commit,
        added=state.added,
        signatures=_signatures(record_commits(git, state.commit, allowed_signers=signers)),
        signers=signers is not None,
        shallow=git.is_shallow(),
        version=hand_of(state, addition.commit, machine) if addition else Hand(certain=False),
        model=hand_of(state, model.commit, machine) if model else Hand(certain=False),
        manifest=digest_bytes(state.tree.read(path)),
    )


def _signatures(history: RecordHistory) -> dict[str, tuple[str, str]]:
    """State of the signature and signer, by the record's path: of the last commit that touched it."""
    return {path: (found.signature, found.signer) for found in history.commits for path in found.record_paths}


def tell(desired: Desired, recorded: Recorded, version: ModelVersion, facts: Facts) -> Story:
    """Put the story together; pure."""
    spec, model = whole(version.spec), desired.models[version.model]
    run = recorded.run(version.record)
    release = recorded.release(version.model, version.number)
    papers = tuple(_papers(recorded, version, run, facts))
    withdrawal = _withdrawal(recorded, model, version, facts)
    story = Story(
        commit=facts.commit,
        model=version.model,
        version=version.number,
        description=model.metadata.description,
        purpose=str(model.card.get("intendedPurpose", "")),
        path=version.document.path,
        manifest=facts.manifest,
        source=Source(
            experiment=version.experiment,
            manifest=str(run.data.get("manifest", "")) if run else "",
            code=spec["code"],
            command=spec["command"],
            commit=spec["commit"],
            parameters=spec["parameters"],
            seed=spec["seed"],
            proposed=recorded_hand(spec.get("provenance") or {}),
        ),
        data=tuple(data_of(spec)),
        environment=spec["environment"],
        training=_training(run) if run else None,
        metrics=spec["metrics"],
        metrics_source=spec["metricsSource"],
        self_reported=spec.get("selfReported", {}),
        evaluation=spec.get("evaluation"),
        gates=tuple(gates_of(spec["gates"])),
        artifacts=tuple(artifacts_of(spec)),
        left=_left(spec["egress"]),
        approved=_approved(release, facts),
        release=_release(recorded, release, facts) if release else None,
        channels=tuple(sorted(name for name, n in recorded.channels(model.name).items() if n == version.number)),
        moves=tuple(_moves(recorded, version, facts)),
        withdrawal=withdrawal,
        papers=papers,
    )
    doubts = tuple(_doubts(story, run, version, recorded, facts))
    return replace(story, doubts=doubts)


def whole(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A version's spec with empty values for what it leaves out: the schema demands little of old versions."""
    told = {
        "code": "",
        "command": "",
        "commit": "",
        "parameters": {},
        "seed": None,
        "inputs": {},
        "environment": {},
        "target": {},
        "metrics": {},
        "metricsSource": "not said",
        "gates": (),
        "artifacts": {},
        "egress": {},
        **spec,
    }
    if isinstance(told["gates"], Mapping):
        told["gates"] = told["gates"].get("results", ())
    return told


def data_of(spec: Mapping[str, Any]) -> Iterator[Data]:
    """The data inputs that a version, or a run in the form of one, repeats."""
    for name, entry in sorted(spec["inputs"].items()):
        yield Data(
            name,
            str(entry.get("type", "")),
            str(entry.get("datastore", "")),
            str(entry.get("path", "")),
            entry["digest"],
            entry.get("files"),
            entry.get("bytes"),
        )


def artifacts_of(spec: Mapping[str, Any]) -> Iterator[Artifact]:
    """The outputs that a version consists of."""
    for name, entry in sorted(spec["artifacts"].items()):
        yield Artifact(
            name,
            str(entry.get("type", "")),
            str(entry.get("path", "")),
            entry["digest"],
            int(entry.get("size", 0)),
            len(entry.get("files", ())),
        )


def _training(run: RunRecord) -> Training:
    data, target = run.data, run.data["target"]
    return Training(
        run=run.run_id,
        attempt=run.attempt,
        outcome=run.outcome.value,
        reason=data["reason"],
        message=data.get("message", ""),
        target=target["name"],
        target_type=target["type"],
        site=target["site"],
        egress=target["egress"],
        isolation=target.get("isolation", {}),
        started=data.get("started"),
        ended=data.get("ended"),
        seconds=data.get("seconds"),
        edgetrain=str(data.get("edgetrain", "")),
        retry=data.get("retry"),
    )


def _left(egress: Mapping[str, Any]) -> Left:
    return Left(
        level=str(egress.get("level", "")),
        logs=str(egress.get("logs", "site")),
        files=int(egress.get("files", 0)),
        bytes=int(egress.get("bytes", 0)),
        waivers=tuple(egress.get("waivers", ())),
        code=egress.get("code"),
        check=egress.get("check"),
    )


def _time(record: Record, facts: Facts) -> str | None:
    found = facts.added.get(record.path)
    return found.time if found else None


def _release(recorded: Recorded, release: ReleaseRecord, facts: Facts) -> Release:
    last = recorded.registration(release.model, release.version) or release
    mine = (r for r in recorded.releases if (r.model, r.version) == (release.model, release.version))
    moves = sorted((r for r in mine if r.event == "registered"), key=lambda r: int(r.data["number"]))
    image = release.data["image"]
    return Release(
        workspace=last.workspace or "",
        number=last.registered_as,
        earlier=tuple(
            f"number {before.registered_as} in {before.workspace}"
            for before in (release, *moves)
            if before.digest != last.digest
        ),
        registry=image["registry"],
        repository=image["repository"],
        digest=image["digest"],
        base=str(image.get("base", "")),
        tags=tuple(map(str, image["tags"])),
        time=_time(release, facts),
    )


def _approved(release: ReleaseRecord | None, facts: Facts) -> Hand:
    """Who stands behind the version: as the release record keeps it, for a clone's history may be cut off."""
    if release is None:
        return facts.version
    kept = recorded_hand(release.data.get("provenance") or {})
    return replace(kept, time=facts.version.time if kept.merge_commit == facts.version.merge_commit else None)


def _moves(recorded: Recorded, version: ModelVersion, facts: Facts) -> Iterator[Move]:
    for move in channel_moves(recorded, version.model):
        before, after = move.data.get("from"), move.data.get("to")
        if version.number in (before, after):
            hand = recorded_hand(move.data.get("provenance") or {})
            yield Move(str(move.data["channel"]), before, after, hand, _time(move, facts))


def channel_moves(recorded: Recorded, model: str) -> list[ReleaseRecord]:
    """The model's channel moves, each channel's in the order of its chain."""
    moves = [r for r in recorded.releases if r.model == model and r.event == "channel"]
    follower = {(r.data["channel"], r.data.get("follows")): r for r in moves}
    ordered: list[ReleaseRecord] = []
    for channel in sorted({r.data["channel"] for r in moves}):
        at = follower.get((channel, None))
        while at is not None and at not in ordered:
            ordered.append(at)
            at = follower.get((channel, at.digest))
    return ordered


def _withdrawal(recorded: Recorded, model: Model, version: ModelVersion, facts: Facts) -> Withdrawal | None:
    records = (
        r
        for r in recorded.releases
        if (r.model, r.version, r.event) == (version.model, version.number, "withdrawn")
    )
    found = next(records, None)
    if found is not None:
        return Withdrawal(str(found.data["why"]), recorded_hand(found.data.get("provenance") or {}), True)
    if version.number in model.withdrawn:
        return Withdrawal(model.withdrawn[version.number], facts.model, False)
    return None


def _papers(recorded: Recorded, version: ModelVersion, run: RunRecord | None, facts: Facts) -> Iterator[Paper]:
    """Every record that the story rests on, in the order of facts."""
    judged = [e for e in recorded.evaluations if run and e.run == run.digest]
    proposed = [p for p in recorded.proposals if (p.model, p.run) == (version.model, version.record)]
    moves = [m for m in recorded.releases if m.model == version.model and m.event == "channel"]
    moves = [m for m in moves if version.number in (m.data.get("from"), m.data.get("to"))]
    own = [r for r in recorded.releases if (r.model, r.version) == (version.model, version.number)]
    found: dict[str, Record] = {r.path: r for r in (*([run] if run else []), *judged, *proposed, *own, *moves)}
    for record in sorted(found.values(), key=lambda r: (r.ordinal, r.path)):
        addition = facts.added.get(record.path)
        signature, signer = facts.signatures.get(record.path, ("unknown", ""))
        yield Paper(
            record.path,
            record.digest,
            addition.commit if addition else "",
            addition.time if addition else None,
            signature,
            signer,
        )


def _doubts(
    story: Story, run: RunRecord | None, version: ModelVersion, recorded: Recorded, facts: Facts
) -> Iterator[Doubt]:
    if run is None:
        yield Doubt("RunRecordMissing", f"the run record {version.run_path} that it cites is not on main")
    else:
        of = version_spec(run, version.number, recorded.gates(run), recorded.judged(run))
        differs = sorted(key for key in of if key != "gates" and version.spec.get(key) != of[key])
        if differs:
            yield Doubt("DiffersFromRecord", f"it does not repeat its run record: {', '.join(differs)}")
    yield from _isolation_doubts(story)
    if story.metrics_source == "self-reported":
        yield Doubt("SelfReported", "the training script measured its own metrics; no evaluation was run apart")
    yield from hand_doubts("experiment", story.source.proposed)
    yield from hand_doubts("version", story.approved)
    yield from release_doubts(story.source.proposed, story.approved)
    # Without a forge only trailers tell who approved, which a move seldom has.
    hands = (story.source.proposed, story.approved, *(move.hand for move in story.moves))
    for move in story.moves:
        if any(hand.review is not None for hand in hands):
            moved = f"{move.channel} from {point(move.before)} to {point(move.after)}"
            yield from hand_doubts(f"move of {moved}", move.hand)
    if facts.version.certain and _people(story.approved) != _people(facts.version, story.approved):
        yield Doubt("ApprovalDiffers", "the release record and git's history name other people or another merge")
    if not facts.signers:
        yield Doubt("SignersUnknown", f"main has no {SIGNERS}, so no record's signature can be checked")
    else:
        for paper in story.papers:
            if paper.signature != "good":
                yield Doubt("RecordUnsigned", f"{paper.path}: {SIGNATURES.get(paper.signature, paper.signature)}")
    if facts.shallow:
        yield Doubt("ShallowClone", SHALLOW)


def _people(hand: Hand, told: Hand | None = None) -> tuple[str | None, str | None, frozenset[str]]:
    """Merge, proposer and approvers, in as far as git knows of them what `told` does: trailers name approvers only
    where no forge told the machine who they are."""
    if (told or hand).review is not None:
        return hand.merge_commit, None, frozenset()
    return hand.merge_commit, hand.proposer, frozenset(hand.approvers)


def _isolation_doubts(story: Story) -> Iterator[Doubt]:
    if story.left.level != EgressLevel.ENFORCED.value:
        yield Doubt("EgressAdvisory", f"training was not kept from the network: the level was {story.left.level}")
    run = story.training
    if run and not any(run.isolation.values()):
        yield Doubt("Unsandboxed", "the script ran without a sandbox and could see the whole machine")
    elif run and not all(run.isolation.values()):
        missing = sorted(name for name, held in run.isolation.items() if not held)
        yield Doubt("IsolationIncomplete", f"not in force while it trained: {', '.join(missing)}")
    if story.left.waivers:
        yield Doubt("Waived", f"{len(story.left.waivers)} egress waiver(s) were used")
    if (check := story.left.check) and check["coverage"] < 1:
        yield Doubt(
            "ContentSampled", f"what left was compared with {100 * check['coverage']:.2g} % of the data only"
        )
