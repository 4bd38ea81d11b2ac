"""The environments that guard what serves, and the sign-in to Azure: whose approval, and which branches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgetrain.core.errors import NotFound
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.core.problem import shown
from edgetrain.providers.github import reading

if TYPE_CHECKING:
    from edgetrain.providers.github.settings import Look

PASS, WARN, FAIL = CheckStatus.PASS, CheckStatus.WARN, CheckStatus.FAIL
VARIABLE = "EDGETRAIN_ENVIRONMENT"


def environments(look: Look) -> Iterator[Check]:
    """The one that guards releases; and that which the site's jobs sign in to Azure with, if they do."""
    yield from _release(look, look.forge.environment)
    site = look.forge.block.get("signIn")
    name = site and (look.variable(VARIABLE) or site)
    if name and name != look.forge.environment:
        yield from _sign_in(look, str(name))


def _release(look: Look, name: str) -> Iterator[Check]:
    found = _found(look, name)
    if found is None:
        yield Check(
            "environment",
            FAIL,
            f"there is no environment {name} (or it is not shown to us)",
            "NoEnvironment",
            f"make the environment {name} with required reviewers: it guards releases and channels",
        )
        return
    rules = reading.objects(found.get("protection_rules"))
    reviewers = [one for one in rules if one.get("type") == "required_reviewers" and one.get("reviewers")]
    if not reviewers:
        yield Check(
            "environment",
            FAIL,
            f"environment {name} needs nobody's approval",
            "NoReviewers",
            f"add required reviewers to the environment {name}",
        )
    elif not all(one.get("prevent_self_review") for one in reviewers):
        yield Check(
            "environment",
            WARN,
            f"environment {name}: who starts a release may approve it",
            "SelfReview",
            f"switch on “Prevent self-review” of the environment {name}",
        )
    else:
        yield Check("environment", PASS, f"environment {name} needs another person's approval")
    yield _branches(look, "environment-branches", name, found, WARN)


def _sign_in(look: Look, name: str) -> Iterator[Check]:
    """Entra believes every job that names this environment."""
    found = _found(look, name)
    if found is None:
        yield Check(
            "azure-environment",
            FAIL,
            f"there is no environment {name}, or it is not shown to us: its first job would make one for all",
            "NoEnvironment",
            f"make the environment {name} for the branch {look.forge.branch} alone: its jobs may sign in to Azure",
        )
    else:
        yield _branches(look, "azure-environment", name, found, FAIL)


def _found(look: Look, name: str) -> dict[str, Any] | None:
    try:
        return look.get(f"see environment {name}", "environments", name)
    except NotFound:
        return None


def _branches(look: Look, check: str, name: str, found: dict[str, Any], bad: CheckStatus) -> Check:
    main = look.forge.branch
    fix = f"choose “Selected branches and tags” of the environment {name}, and name {main} alone"
    policy = found.get("deployment_branch_policy")
    if not isinstance(policy, dict):
        return Check(check, bad, f"environment {name} may be used from every branch", "AnyBranch", fix)
    if policy.get("protected_branches"):
        # GitHub: "If no branch protection rules are defined", all branches may; of rulesets it does not speak.
        what = f"environment {name} may be used from protected branches, and GitHub counts no ruleset for that"
        return Check(check, bad, what, "ProtectedBranches", fix)
    where = look.forge.where("environments", name, "deployment-branch-policies")
    listed = look.client.pages(where, f"see the branches of environment {name}", "branch_policies")
    names = {(str(one.get("type", "branch")), shown(one.get("name", ""), 200)) for one in listed}
    if names - {("branch", main)}:
        told = ", ".join(sorted(name for _, name in names - {("branch", main)})[:5])
        return Check(
            check, bad, f"environment {name} may be used from other branches too: {told}", "AnyBranch", fix
        )
    return Check(check, PASS, f"environment {name} may be used from {main} alone")
