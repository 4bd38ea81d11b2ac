"""Turns candidates into model versions for people to merge, and judges stored results again."""

from __future__ import annotations

import re

import yaml

from edgetrain.core.decide import channel_scores, scores_of, version_manifest
from edgetrain.core.plan import Change
from edgetrain.core.planner.proposals import proposal_branch
from edgetrain.core.ports import PullRequest
from edgetrain.core.record import API_VERSION, RunRecord
from edgetrain.reconcile.context import Context
from edgetrain.reconcile.report import Result, Status
from edgetrain.render.proposal import Candidate, Reference, proposal_markdown, proposal_title

PRODUCTION = "production"
LABEL = "edgetrain"
_NAME = re.compile(r"(?![yYnN]$)[A-Za-z][A-Za-z0-9_./-]*")
SCHEMA_LINE = "# yaml-language-server: $schema=../../../tools/edgetrain/schemas/modelversion.schema.json\n"


class _Quoted(yaml.SafeDumper):
    """Writes every text value in double quotes, so that no reader takes one for a number."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"')


class _Key(str):
    """A key, which stays unquoted if every reader takes it for a name: those of checks may be anything."""

    __slots__ = ()


def _key(dumper: yaml.SafeDumper, key: _Key) -> yaml.ScalarNode:
    style = None if _NAME.fullmatch(key) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(key), style=style)


_Quoted.add_representer(str, _text)
_Quoted.add_representer(_Key, _key)


def _keyed(value: object) -> object:
    if isinstance(value, dict):
        return {_Key(key): _keyed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_keyed(item) for item in value]
    return value


def manifest_bytes(context: Context, run: RunRecord, number: int) -> bytes:
    """The version's manifest as a file."""
    model = context.state.desired.models[run.model]
    manifest = version_manifest(run, number, context.state.recorded, model.metadata.owners)
    text = yaml.dump(_keyed(manifest), Dumper=_Quoted, sort_keys=False, width=120, allow_unicode=True)
    return (SCHEMA_LINE + text).encode()


def propose(context: Context, change: Change) -> Result:
    """Ensure the proposal: a branch for review, or the version itself where the model says `automatic`."""
    subject = change.subject
    model, number = str(subject["model"]), int(subject["version"])
    run = context.state.recorded.run(subject["record"])
    if run is None:
        return Result(change.id, "propose", Status.FAILED, "RecordGone", "the candidate's record is not on main")
    automatic = subject["release"] == "automatic"
    with context.site.artifacts.lock(f"proposal/{model}"):
        put_forward(context, run, number, automatic=automatic)
        pull = None if automatic else ask_for_review(context, run, number)
        record_proposal(context, run, number, str(subject["branch"]), pull)
    message = f"version {number} from {run.run_id}" + (f", pull request #{pull.number}" if pull else "")
    return Result(change.id, "propose", Status.APPLIED, change.reason, message)


def put_forward(context: Context, run: RunRecord, number: int, *, automatic: bool) -> None:
    """Write the version's manifest to its branch, or to main."""
    path = f"models/{run.model}/versions/{number}.yaml"
    files = {path: manifest_bytes(context, run, number)}
    subject = f"Propose {run.model}@{number} from {run.run_id}"
    trailers = trailers_of(context, run, number)
    context.step("propose")
    if automatic:
        context.ledger.commit(files, f"Release {run.model}@{number} from {run.run_id}", trailers=trailers)
    else:
        context.ledger.propose(proposal_branch(run.model, number), files, subject, trailers=trailers)
        context.tell("Proposed", f"{run.model}@{number}", f"branch {proposal_branch(run.model, number)}")


def trailers_of(context: Context, run: RunRecord, number: int) -> list[tuple[str, str]]:
    """The trailers of a proposal's commits; who approved is who approved the run's experiment."""
    own = [("Run", run.run_id), ("Model", f"{run.model}@{number}")]
    return context.trailers(own, run.data["provenance"])


def ask_for_review(context: Context, run: RunRecord, number: int) -> PullRequest | None:
    """Ensure the pull request of a proposal's branch; None without a forge."""
    forge = context.site.forge
    if forge is None:
        return None
    model = context.state.desired.models[run.model]
    found = candidate_of(context, run, number)
    # Owners that are no accounts (an address, a department) can't be asked.
    owners = [owner.removeprefix("@") for owner in model.metadata.owners if owner.startswith("@")]
    context.step("pull-request")
    pull = forge.propose(
        proposal_branch(run.model, number), proposal_title(found), proposal_markdown(found), owners, [LABEL]
    )
    context.tell("Opened", f"{run.model}@{number}", pull.url)
    return pull


def candidate_of(context: Context, run: RunRecord, number: int) -> Candidate:
    """What the pull request says of the candidate, beside the version in production (or the gates' channel)."""
    state, forge = context.state, context.site.configuration.forge
    model = state.desired.models[run.model]
    asked = [gate.reference for gate in model.gates if gate.reference]
    channel = PRODUCTION if PRODUCTION in model.channels or not asked else asked[0]
    data = {**run.data, **state.recorded.judged(run)}
    scores = channel_scores(state.desired, model).get(channel)
    reference = None
    if scores is not None:
        beside = data.get("evaluation", {}).get("references", {}).get(channel, {})
        if "metrics" in beside:
            reference = Reference(scores.label, channel, beside["metrics"], comparable=True)
        else:
            same = scores.data == scores_of("candidate", data).data
            reference = Reference(scores.label, channel, scores.metrics, same)
    earlier = [p for p in state.recorded.proposals if (p.model, p.version) == (run.model, number)]
    before = state.recorded.run(earlier[-1].run) if earlier and earlier[-1].run != run.digest else None
    return Candidate(
        model=run.model,
        version=number,
        run=run.run_id,
        path=run.path,
        data=data,
        gates=state.recorded.gates(run)["results"],
        reference=reference,
        channel=channel,
        purpose=str(model.card.get("intendedPurpose", "")),
        risk=str(model.card.get("riskClass", "")),
        repository=model.image.repository,
        environment=forge.environment if forge else "",
        supersedes=before.run_id if before else "",
    )


def record_proposal(
    context: Context, run: RunRecord, number: int, branch: str, pull: PullRequest | None = None
) -> None:
    """Write down that this run was proposed, so that a closed proposal does not come back; once more where another
    pull request proposes it by now, so that the one which people look at has its record."""
    earlier = [p for p in context.state.recorded.proposals if p.model == run.model and p.version == number]
    mine = [p for p in earlier if p.run == run.digest]
    if mine and (pull is None or mine[-1].pull_request == pull.number):
        return
    identity = run.identity.removeprefix("sha256:")[:12]
    again = f".again-{len(mine)}" if mine else ""
    context.commit_record(
        f"models/{run.model}/proposals/{number}-{identity}-{run.attempt}{again}.json",
        {
            "apiVersion": API_VERSION,
            "kind": "ProposalRecord",
            "model": run.model,
            "version": number,
            "run": run.digest,
            "branch": branch,
            "supersedes": earlier[-1].digest if earlier else None,
            **({"pullRequest": pull.number} if pull is not None else {}),
        },
        f"Record proposal {run.model}@{number}",
        [("Run", run.run_id), ("Model", f"{run.model}@{number}")],
        run.data["provenance"],
    )
