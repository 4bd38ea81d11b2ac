"""Models with their versions and channels, and a model's log: as text and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgetrain.core.digest import short
from edgetrain.render.gates import GATE_HEAD, Gate, gate_row
from edgetrain.render.hands import Hand, approvers, merger, proposer
from edgetrain.render.jsons import as_json
from edgetrain.render.tables import aligned, labelled, number, plain


@dataclass(frozen=True)
class Version:
    """One version. `image` is the released image's digest, `hand` who stands behind it; None before the release."""

    number: int
    run: str
    metrics: Mapping[str, float]
    channels: tuple[str, ...]
    image: str | None
    withdrawn: str | None
    hand: Hand | None = None
    source: str = ""


@dataclass(frozen=True)
class Proposal:
    """An open proposal, as last fetched."""

    number: int
    branch: str


@dataclass(frozen=True)
class Overview:
    """One model. `channels` are where the manifest wants them, `pending` those that apply has not moved yet;
    `moved` tells who stands behind each channel's last move; `unread` are files of it with problems."""

    name: str
    description: str
    retired: bool
    channels: Mapping[str, int]
    pending: tuple[str, ...]
    versions: tuple[Version, ...]
    proposals: tuple[Proposal, ...]
    moved: Mapping[str, Hand] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class Happening:
    """One fact in a model's log. `kind` is a stable word; `gates` hold what a run was judged by."""

    time: str | None
    kind: str
    subject: str
    what: str
    details: tuple[tuple[str, str], ...] = ()
    gates: tuple[Gate, ...] = ()


def models_text(models: Sequence[Overview]) -> str:
    """A block a model."""
    if not models:
        return "No model is declared. Make one: edgetrain new model NAME\n"
    blocks = [_block(model) for model in models]
    return "\n".join(["\n".join(block) + "\n" for block in blocks])


def _block(model: Overview) -> list[str]:
    lines = [*labelled([(model.name, _title(model))], indent="")]
    if model.versions:
        rows = [
            (
                f"@{version.number}",
                _state(version),
                ", ".join(f"{name} {number(found)}" for name, found in sorted(version.metrics.items())) or "-",
                version.source or "-",
                f"image {short(version.image)}" if version.image else "not released yet",
                version.run,
                approvers(version.hand) if version.hand else "-",
            )
            for version in model.versions
        ]
        lines += aligned([("version", "stands", "metrics", "measured", "image", "run", "approved by"), *rows])
    else:
        lines.append("  no version is merged yet")
    for path in model.unread:
        lines += labelled([("has problems, and is left out:", f"{path}; see edgetrain validate")])
    for channel, hand in model.moved.items():
        lines += labelled([(f"channel {channel}:", _moved(hand))])
    for proposal in model.proposals:
        lines += labelled([(f"@{proposal.number} is proposed:", proposal.branch)])
    for channel in model.pending:
        lines += labelled([(f"channel {channel}:", "apply has not moved it yet")])
    return lines


def _moved(hand: Hand) -> str:
    merged = f", merged by {merger(hand)}" if hand.review else ""
    return f"moved by {proposer(hand)}, approved by {approvers(hand)}{merged}"


def _title(model: Overview) -> str:
    return f"{model.description}{' (retired)' if model.retired else ''}".strip()


def _state(version: Version) -> str:
    if version.withdrawn:
        return f"withdrawn: {version.withdrawn}"
    return ", ".join(version.channels) or "-"


def models_json(models: Sequence[Overview]) -> str:
    """For machines."""
    return as_json({"models": [plain(model) for model in models]})


CUT = "This clone is shallow: when and in which order older things came can't be told. git fetch --unshallow."


def log_text(model: str, happenings: Sequence[Happening], cut: bool = False) -> str:
    """What happened, oldest first; `cut` if history is not all here."""
    if not happenings:
        return f"Nothing is recorded of {model} yet.\n"
    lines = []
    for found in happenings:
        lines += aligned([(found.time or "time not known", found.kind, found.subject)], "", limit=200)
        if found.what:
            lines += labelled([(found.what, "")], "    ")
        lines += labelled(found.details, "    ")
        if found.gates:
            lines += aligned([GATE_HEAD, *map(gate_row, found.gates)], "    ")
    return "\n".join([*lines, *([CUT] if cut else [])]) + "\n"


def log_json(model: str, happenings: Sequence[Happening], cut: bool = False) -> str:
    """For machines."""
    rows = [{**plain(found), "details": dict(found.details)} for found in happenings]
    return as_json({"model": model, "log": rows, "notes": [CUT] if cut else []})
