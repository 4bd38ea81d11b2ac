"""The two lanes of apply: what is done within two minutes whatever trains, and what may take its time."""

from __future__ import annotations

from enum import StrEnum

from edgetrain.core.plan import Operation

# What of a version or channel is done.
RELEASING = frozenset(
    {
        Operation.REGISTER,
        Operation.PUSH,
        Operation.TAG,
        Operation.RELEASE,
        Operation.MOVE,
        Operation.WITHDRAW,
    }
)
ATTACHING = frozenset({Operation.ATTACH, Operation.DETACH})
# What waits for a slot of a target.
ON_TARGETS = frozenset({Operation.TRAIN, Operation.ADOPT, Operation.SCORE})
# What an apply that trains does beside its runs.
ASIDE = RELEASING | {Operation.EVALUATE, Operation.PROPOSE, Operation.CLOSE, Operation.CANCEL}


class Lane(StrEnum):
    """Which changes an apply makes. Two applies of one site, each in a lane of its own, are safe side by side."""

    ALL = "all"
    TRAIN = "train"
    RELEASE = "release"

    @property
    def operations(self) -> frozenset[Operation]:
        """What is done in this lane. Runs that nobody wants any more are cancelled in either: the one may stand
        at a long digest, the other wait for the consent of people."""
        if self is Lane.RELEASE:
            return RELEASING | {Operation.CANCEL}
        return frozenset(Operation) - RELEASING if self is Lane.TRAIN else frozenset(Operation)

    @property
    def parts(self) -> tuple[Lane, ...]:
        """The lanes whose work this one does."""
        return (Lane.TRAIN, Lane.RELEASE) if self is Lane.ALL else (self,)


def lane_of(operation: Operation) -> Lane:
    """TRAIN or RELEASE: the narrow lane that tells people of it."""
    return Lane.RELEASE if operation in RELEASING else Lane.TRAIN
