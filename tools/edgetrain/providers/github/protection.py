"""How the branch is protected: what its rules ask of a change, and who may pass them by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from edgetrain.core.errors import Denied, NotFound
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.providers.github import reading

if TYPE_CHECKING:
    from edgetrain.providers.github.settings import Look

PASS, WARN, FAIL = CheckStatus.PASS, CheckStatus.WARN, CheckStatus.FAIL
ACTORS = {
    "DeployKey": "deploy keys",
    "EnterpriseOwner": "owners of the enterprise",
    "Integration": "another App",
    "OrganizationAdmin": "administrators of the organization",
    "RepositoryRole": "a role in the repository",
    "Team": "a team",
    "User": "a person",
}
Actor = tuple[str, int]


def branch(look: Look) -> Iterator[Check]:
    """The checks of the configured branch's rules."""
    name = look.forge.branch
    where = look.forge.where("rules", "branches", name)
    rules = list(look.client.pages(where, f"see the rules of {name}"))
    asks = [_parameters(one) for one in rules if one.get("type") == "pull_request"]
    if not asks:
        yield _unprotected(look, name)
        return
    yield Check("branch-pull-request", PASS, f"{name} changes by pull requests only")
    approvals = max((_count(one.get("required_approving_review_count")) for one in asks), default=0)
    yield _held(
        approvals > 0,
        "branch-approvals",
        f"a change of {name} needs {approvals} approval(s)",
        f"a change of {name} needs nobody's approval",
        "NoApproval",
        "ask for at least one approval in the ruleset",
    )
    yield _held(
        any(one.get("require_code_owner_review") is True for one in asks),
        "branch-code-owners",
        "code owners must approve",
        "code owners need not approve",
        "NoCodeOwners",
        "switch on “Require review from Code Owners” in the ruleset",
    )
    yield _held(
        any(one.get("dismiss_stale_reviews_on_push") is True for one in asks),
        "branch-stale-approvals",
        "an approval falls when new commits come",
        "an approval stays when new commits come",
        "StaleApprovals",
        "switch on “Dismiss stale pull request approvals when new commits are pushed” in the ruleset",
    )
    # Without it, who adds commits to a pull request that the App opened may approve them.
    yield _held(
        any(one.get("require_last_push_approval") is True for one in asks),
        "branch-last-push",
        "somebody else than who pushed last must approve",
        "who pushed last may approve it: so may who adds to the machine's own pull requests",
        "LastPushApproval",
        "switch on “Require approval of the most recent reviewable push” in the ruleset",
    )
    types = {str(one.get("type")) for one in rules}
    yield _held(
        {"deletion", "non_fast_forward"} <= types,
        "branch-history",
        f"{name} can't be deleted or rewritten",
        f"{name} can be deleted or rewritten",
        "HistoryOpen",
        "switch on “Restrict deletions” and “Block force pushes” in the ruleset",
    )
    yield _held(
        "required_status_checks" in types,
        "branch-checks",
        "checks must pass before a merge",
        "no check need pass before a merge",
        "NoChecks",
        "require the check of the pull request's workflow in the ruleset",
        WARN,
    )
    named = [
        check
        for one in rules
        if one.get("type") == "required_status_checks"
        for check in reading.objects(_parameters(one).get("required_status_checks"))
    ]
    if named:
        yield _held(
            all(isinstance(check.get("integration_id"), int) for check in named),
            "branch-checks-source",
            "a check counts from the App alone that runs it",
            "whoever can write may report a check that is asked for, by its name",
            "CheckFromAnybody",
            "choose GitHub Actions as the source of each required check in the ruleset",
            WARN,
        )
    yield _bypass(look, [one for one in rules if one.get("type") == "pull_request"])


def _unprotected(look: Look, name: str) -> Check:
    found = look.get(f"see {name}", "branches", name)
    if found.get("protected") is True:
        return Check(
            "branch-pull-request",
            WARN,
            f"{name} is protected in the older way, which can't be looked at here",
            "OldProtection",
            "use a ruleset instead: it can let the App alone pass by",
        )
    return Check(
        "branch-pull-request",
        FAIL,
        f"anybody who can write may push to {name}",
        "Unprotected",
        f"make a ruleset for {name}: pull requests with approvals, and a bypass for the App alone",
    )


def _bypass(look: Look, rules: Sequence[dict[str, Any]]) -> Check:
    """Who passes by: those who do so in every ruleset that asks for pull requests; ours must do so in each."""
    everywhere: set[Actor] | None = None
    numbers = {reading.read(look.client.host, lambda one: reading.count(one["ruleset_id"]), one) for one in rules}
    for number in sorted(numbers):
        try:
            found = look.get(f"see ruleset {number}", "rulesets", number)
        except (Denied, NotFound):
            found = {}
        if not isinstance(found.get("bypass_actors"), list):
            return Check(
                "branch-bypass",
                WARN,
                "the forge does not tell who may pass the rules by",
                "NotTold",
                "look at the ruleset's bypass list: the App alone (the forge shows it to whom may edit it)",
            )
        actors = {_actor(one) for one in reading.objects(found["bypass_actors"])}
        everywhere = actors if everywhere is None else everywhere & actors
    passing = everywhere or set()
    ours = _ours(look)
    if ours is None:
        return Check(
            "branch-bypass",
            WARN,
            f"{len(passing)} may pass the rules by; which of them is the App can't be seen with this credential",
            "NotTold",
            "run this where the App's key is",
        )
    others = sorted({ACTORS.get(kind, "somebody") for kind, number in passing if not _is(ours, kind, number)})
    if others:
        return Check(
            "branch-bypass",
            FAIL,
            f"the rules can be passed by: {', '.join(others)}",
            "Bypass",
            "take all but the App from the bypass list of the ruleset",
        )
    if not passing:
        return Check(
            "branch-bypass",
            FAIL,
            f"records can't be pushed: {'the App' if ours[0] == 'Integration' else 'a deploy key'} may not pass by",
            "NoBypass",
            "add the App (or deploy keys, if these push) to the bypass list of the ruleset, always allowed",
        )
    if ours[0] == "DeployKey":
        return Check(
            "branch-bypass",
            WARN,
            "every deploy key with write access may pass the rules by, for any file",
            "DeployKeyBypass",
            "prefer the App: its tokens live an hour and can't change workflows",
        )
    return Check("branch-bypass", PASS, "the App alone may pass the rules by")


def _ours(look: Look) -> Actor | None:
    if not look.forge.pushes:
        return "DeployKey", 0
    if look.forge.app is not None:
        return "Integration", look.forge.app.about()[0]
    declared = str(look.forge.block["app"]["id"])
    return ("Integration", int(declared)) if declared.isdigit() else None


def _is(ours: Actor, kind: str, number: int) -> bool:
    return (kind, number) == ours if ours[0] == "Integration" else kind == ours[0]


def _actor(one: dict[str, Any]) -> Actor:
    number = one.get("actor_id")
    return str(one.get("actor_type"))[:40], number if isinstance(number, int) else 0


def _parameters(rule: dict[str, Any]) -> dict[str, Any]:
    found = rule.get("parameters")
    return found if isinstance(found, dict) else {}


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _held(holds: bool, name: str, good: str, bad: str, reason: str, fix: str, status: CheckStatus = FAIL) -> Check:
    return Check(name, PASS, good) if holds else Check(name, status, bad, reason, fix)
