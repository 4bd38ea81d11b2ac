"""A plan: the changes that lead from actual to desired state, as a frozen value with one digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from edgetrain.core.digest import digest_of
from edgetrain.core.problem import Problem, Severity


class Effect(StrEnum):
    """What a change does to something that is already there. Only UPDATE and DELETE can surprise."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class Operation(StrEnum):
    """What apply does for a change."""

    TRAIN = "train"
    ADOPT = "adopt"
    CANCEL = "cancel"
    EVALUATE = "evaluate"
    SCORE = "score"
    PROPOSE = "propose"
    CLOSE = "close"
    REGISTER = "register"
    PUSH = "push"
    TAG = "tag"
    RELEASE = "release"
    MOVE = "move"
    WITHDRAW = "withdraw"
    ATTACH = "attach"
    DETACH = "detach"


# Updates and deletions that a merged manifest asked for: records in git can't foretell what they change, but
# a person reviewed the manifest.
MANIFEST_REASONS = frozenset(
    {
        "DatastoreChanged",
        "DatastoreRemoved",
        "TargetChanged",
        "TargetRemoved",
        "TargetRetired",
        "WorkspaceChanged",
    }
)


@dataclass(frozen=True)
class Difference:
    """One field that differs; values are JSON."""

    path: str
    actual: Any
    desired: Any


@dataclass(frozen=True)
class Change:
    """One effect. `id` names the object and stays the same from plan to plan.

    `reason` is a stable CamelCase name. `subject` holds the facts that apply needs (JSON). `after` names
    changes that must be done before; `conditional` marks what happens only if these end well.
    """

    id: str
    operation: Operation
    effect: Effect
    reason: str
    differences: tuple[Difference, ...] = ()
    subject: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    conditional: bool = False

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "id": self.id,
            "operation": self.operation.value,
            "effect": self.effect.value,
            "reason": self.reason,
            "differences": [vars(difference) for difference in self.differences],
            "subject": dict(self.subject),
            "after": list(self.after),
            "conditional": self.conditional,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Change:
        """From JSON; ValueError or KeyError if it is no change."""
        return cls(
            id=value["id"],
            operation=Operation(value["operation"]),
            effect=Effect(value["effect"]),
            reason=value["reason"],
            differences=tuple(Difference(**difference) for difference in value["differences"]),
            subject=value["subject"],
            after=tuple(value["after"]),
            conditional=value["conditional"],
        )


@dataclass(frozen=True)
class Plan:
    """All changes in the order in which apply takes them, and what is refused (`problems`).

    `commit` is noted, not hashed, for merging alters it. `refreshed`: providers were asked; otherwise only
    the records in git were (the offline plan). `waiting` names runs under way or held back, and why:
    waiting is no change. `egress` tells, for each experiment with runs to start, the code's files and the
    waivers that hold. `notes` are things of the world worth knowing, by object: nothing is done about them.
    """

    desired: str
    changes: tuple[Change, ...]
    problems: tuple[Problem, ...] = ()
    refreshed: bool = False
    waiting: tuple[tuple[str, str], ...] = ()
    managed: int = 0
    commit: str = ""
    egress: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()

    @cached_property
    def digest(self) -> str:
        """One digest over desired state, the managed fields of actual (in the differences), and changes."""
        return digest_of(
            {
                "desired": self.desired,
                "refreshed": self.refreshed,
                "changes": [change.to_json() for change in self.changes],
                "problems": [[p.path, p.code, p.what] for p in self.problems],
                **({"egress": [dict(each) for each in self.egress]} if self.egress else {}),
            }
        )

    def count(self, effect: Effect) -> int:
        """How many changes have this effect."""
        return sum(change.effect is effect for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        """As JSON, with the digest."""
        return {
            "apiVersion": "edgetrain/v1",
            "kind": "Plan",
            "digest": self.digest,
            "commit": self.commit,
            "desired": self.desired,
            "refreshed": self.refreshed,
            "managed": self.managed,
            "changes": [change.to_json() for change in self.changes],
            "problems": [{**_problem(p)} for p in self.problems],
            "waiting": [list(pair) for pair in self.waiting],
            "egress": [dict(each) for each in self.egress],
            "notes": [list(pair) for pair in self.notes],
        }

    @classmethod
    def from_json(cls, value: Any) -> Plan:
        """From JSON; ValueError if it is no plan or its digest does not hold."""
        try:
            plan = cls(
                desired=value["desired"],
                changes=tuple(Change.from_json(change) for change in value["changes"]),
                problems=tuple(Problem(**{**p, "severity": Severity(p["severity"])}) for p in value["problems"]),
                refreshed=value["refreshed"],
                waiting=tuple((pair[0], pair[1]) for pair in value["waiting"]),
                managed=value["managed"],
                commit=value["commit"],
                egress=tuple(dict(each) for each in value.get("egress", ())),
                notes=tuple((pair[0], pair[1]) for pair in value.get("notes", ())),
            )
            digest = plan.digest
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            raise ValueError(f"not a plan: {type(error).__name__} {error}") from None
        if value.get("digest") != digest:
            raise ValueError("the plan's digest does not hold: the file was altered")
        return plan


def _problem(value: Problem) -> dict[str, Any]:
    return {name: getattr(value, name) for name in Problem.__dataclass_fields__}


def surprises(offline: Plan, refreshed: Plan) -> set[str]:
    """Ids of updates and deletions that only the refreshed plan has: nobody reviewed them."""
    reviewed = {(change.id, change.effect) for change in offline.changes}
    return {
        change.id
        for change in refreshed.changes
        if change.effect is not Effect.CREATE
        and change.reason not in MANIFEST_REASONS
        and (change.id, change.effect) not in reviewed
    }
