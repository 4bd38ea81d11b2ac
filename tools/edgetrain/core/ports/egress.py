"""The values of the content check: what would leave a target, and what was found in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class EgressRules:
    """What an ended run's content check is to look at.

    `files` are the output files that would leave (paths of the harvest) with the type of the declared output
    that each belongs to; `texts` what else would leave, by where it would show (`metric names`, `message`);
    `log` whether the log would leave. `waived` are codes that the manifest waives, by output path ("" for all).
    `max_expanded` bounds the bytes looked at after decompression, `seconds` the time.
    """

    files: Mapping[str, str]
    texts: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    history: Sequence[tuple[str, float]] = ()
    log: bool = False
    waived: Sequence[tuple[str, str]] = ()
    max_expanded: int = 8 * 2**30
    seconds: int = 1800


@dataclass(frozen=True)
class Leaving:
    """What of a run may leave its target if the content check lets it, as known before the run starts: declared
    outputs (path in the outputs folder to type, and to most bytes), declared metrics by name, the log if it is to
    leave, and the codes that are waived by output path ("" for all). For targets that check by themselves.

    Of an evaluation the metrics of each slice leave too, and no history: of each of `slices`, or where these are
    none of all that it tells; None for any other run. Where outputs `stay`, their files' names, sizes and digests
    leave, and no byte of them."""

    outputs: Mapping[str, str]
    sizes: Mapping[str, int] = field(default_factory=dict)
    metrics: Sequence[str] = ()
    log: bool = False
    waived: Sequence[tuple[str, str]] = ()
    slices: Sequence[str] | None = None
    stay: bool = False


@dataclass(frozen=True)
class EgressFinding:
    """One thing that must not leave: `code` as in the docs (`E701`), `where` (an output's name, `log`,
    `metric names`), `what` in a sentence. Never the data itself, and no name of a data file."""

    code: str
    where: str
    what: str
    waived: bool = False


@dataclass(frozen=True)
class Examination:
    """The content check's answer. `complete` is false if a limit cut it short: then nothing may leave, and
    `reason` says which.

    `files` and `bytes` count what was looked at (after decompression), `fingerprints` what it was compared
    with, `coverage` the share of them that could be kept (less than 1 where the data is large); `level` is
    `enforced` if the check itself ran without a network and rights.
    """

    complete: bool
    findings: Sequence[EgressFinding]
    files: int
    bytes: int
    fingerprints: int
    level: str
    seconds: float = 0.0
    reason: str = ""
    coverage: float = 1.0
