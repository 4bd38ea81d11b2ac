"""Plans what a workspace has attached: a target that Azure ML must reach is attached, mended, or let go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgetrain.core.codes import policy
from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_of, short
from edgetrain.core.kinds import ComputeTarget, Configuration
from edgetrain.core.observation import Attached, Observation
from edgetrain.core.plan import Change, Difference, Effect, Operation
from edgetrain.core.problem import Code, Problem, problem, shown

if TYPE_CHECKING:
    from edgetrain.core.ports import WantedAttachment

READY, FAILED = "ready", "failed"
# Reasons of a target's status, where the port `Probed` is kept.
NOT_PROBED, PROBING = "NotProbed", "Probing"


def owner_of(configuration: Configuration, site: str) -> str:
    """What the owner tag holds of all that this repository attaches at the site, in whatever workspace."""
    return short(digest_of([configuration.machine.email, site]))


@dataclass(frozen=True)
class Standing:
    """How a target stands in the workspace. `change` brings it there, `problem` keeps it away, `waits` names
    what is waited for. With none of them it is attached as wanted, or needs no attachment."""

    change: Change | None = None
    problem: Problem | None = None
    waits: str = ""

    @property
    def coming(self) -> bool:
        """Whether a later round, or a later apply, may find it attached."""
        return self.change is not None or bool(self.waits)

    @property
    def message(self) -> str:
        """Why it can't take a run now; empty if it can."""
        if self.problem is not None:
            return self.problem.what
        if self.change is not None:
            return "it is not attached to the workspace as its manifest says"
        return f"its attachment is not as its manifest says, and waits ({self.waits})" if self.waits else ""


FINE = Standing()


def plan_attachments(
    desired: Desired, observed: Observation | None
) -> tuple[list[Change], list[Problem], list[tuple[str, str]]]:
    """Changes of attachments, what is refused, and what waits.

    Git holds no record of what is attached, so the offline plan only says what happens if it is not there.
    """
    if observed is None:
        return list(_unknown(desired)), [], []
    if observed.attachments is None:
        return [], [], []
    changes = list(_detached(desired, observed.attachments, observed))
    waiting: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for change in [found for found in changes if _in_use(found.subject["name"], observed)]:
        changes.remove(change)
        waiting.append((change.id, "TargetInUse"))
    for name in sorted({*observed.attachments.wanted, *observed.attachments.faults}):
        found = standing(desired.targets[name], observed)
        changes += [found.change] if found.change else []
        problems += [found.problem] if found.problem else []
        waiting += [(attachment_id(name), found.waits)] if found.waits else []
    return changes, problems, waiting


def attachment_id(name: str) -> str:
    """`attachment/<name>`"""
    return f"attachment/{name}"


def standing(target: ComputeTarget, observed: Observation) -> Standing:
    """How one target stands, as far as it was looked at."""
    seen, name = observed.attachments, target.metadata.name
    if seen is None or not target.attached:
        return FINE
    if name in seen.faults:
        return Standing(problem=_refusal(policy.ATTACHMENT_UNCLEAR, target, seen.faults[name]))
    wanted = seen.wanted.get(name)
    if wanted is None:
        return FINE
    held = seen.held.get(wanted.name)
    if held is None:
        fields = tuple(Difference(name, None, value) for name, value in sorted(wanted.fields.items()))
        return Standing(_attach(target, wanted, Effect.CREATE, "NotAttached", fields))
    if held.owner != seen.owner:
        whose = f"its owner tag is {shown(held.owner)}" if held.owner else "it carries no owner tag"
        what = f"the workspace has a compute target {shown(wanted.name)!r} that is not ours: {whose}"
        return Standing(problem=_refusal(policy.ATTACHMENT_HELD, target, what))
    if held.state not in (READY, FAILED):
        return Standing(waits="TargetDetaching" if held.state == "detaching" else "TargetAttaching")
    if held.state == FAILED:
        state = (Difference("state", f"{FAILED}: {shown(held.message, 500)}", READY),)
        return Standing(_attach(target, wanted, Effect.CREATE, "AttachmentFailed", state))
    drift = sorted(wanted.drift(held).items())
    differences = tuple(Difference(name, there, want) for name, (want, there) in drift)
    if not differences:
        return _probed(target, wanted, observed)
    if _in_use(name, observed):  # to attach again would end what runs there
        return Standing(waits="TargetInUse")
    reason = "AttachmentDrifted" if held.digest == wanted.digest else "TargetChanged"
    return Standing(_attach(target, wanted, Effect.UPDATE, reason, differences))


def _probed(target: ComputeTarget, wanted: WantedAttachment, observed: Observation) -> Standing:
    """Of one that is attached as wanted: what holds scripts back there is seen by a run of its own, where only a
    run can see it."""
    status = observed.targets.get(target.metadata.name)
    if status is None or status.ready or status.reason not in (NOT_PROBED, PROBING):
        return FINE
    if status.reason == PROBING:
        return Standing(waits="TargetProbing")
    difference = Difference("probe", None, "a run that looks at the sandbox")
    return Standing(_attach(target, wanted, Effect.CREATE, NOT_PROBED, (difference,)))


def _attach(
    target: ComputeTarget,
    wanted: WantedAttachment,
    effect: Effect,
    reason: str,
    differences: tuple[Difference, ...],
) -> Change:
    subject = {**_subject(target), "name": wanted.name, "digest": wanted.digest}
    return Change(attachment_id(target.metadata.name), Operation.ATTACH, effect, reason, differences, subject)


def _subject(target: ComputeTarget) -> dict[str, Any]:
    """`sends` is the secret, by its name, that leaves the site when the target is attached."""
    block = target.document.data["spec"].get("azuremlVm", {})
    secret = block.get("privateKey", {}).get("secret")
    return {
        "target": target.metadata.name,
        "type": target.type,
        "site": target.site,
        **({"sends": {"privateKey": secret}} if secret else {}),
    }


def _in_use(name: str, observed: Observation) -> bool:
    return any(ticket.get("target") == name for ticket in observed.tickets.values())


def _refusal(code: Code, target: ComputeTarget, what: str) -> Problem:
    return problem(code, target.document.path, target.document.mark("metadata", "name"), what)


def _detached(desired: Desired, seen: Attached, observed: Observation) -> Iterator[Change]:
    """What is ours and that no manifest of this site wants attached any more."""
    if seen.faults:
        return  # the name of one that can't be told could be among these
    wanted = {want.name for want in seen.wanted.values()}
    for name, held in sorted(seen.held.items()):
        if name in wanted or held.owner != seen.owner or held.state == "detaching":
            continue
        target = desired.targets.get(name)
        retired = target is not None and target.metadata.retired
        yield Change(
            attachment_id(name),
            Operation.DETACH,
            Effect.DELETE,
            "TargetRetired" if retired else "TargetRemoved" if target is None else "TargetChanged",
            (Difference("attached", held.type, None),),
            {"target": name, "type": held.type, "name": name},
        )


def _unknown(desired: Desired) -> Iterator[Change]:
    if not desired.configuration.attaches:
        return
    for name, target in sorted(desired.targets.items()):
        if target.attached and not target.metadata.retired:
            yield Change(
                attachment_id(name),
                Operation.ATTACH,
                Effect.CREATE,
                "IfNotAttached",
                subject=_subject(target),
                conditional=True,
            )
