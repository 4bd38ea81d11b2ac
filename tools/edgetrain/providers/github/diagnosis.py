"""What `doctor` finds out of the forge: whether it answers, who we are there, and what we may do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgetrain.core.errors import ProviderError
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.core.problem import shown
from edgetrain.providers.diagnosis import failed
from edgetrain.providers.github.app import CALLS, PUSH, App, missing

if TYPE_CHECKING:
    from edgetrain.providers.github.provider import GithubForge

PASS, WARN, FAIL = CheckStatus.PASS, CheckStatus.WARN, CheckStatus.FAIL


def diagnose(forge: GithubForge) -> Sequence[Check]:
    """Checks `forge` and, as far as that passes, `forge-account` and `forge-rights`."""
    checks: list[Check] = []
    name = "forge"
    try:
        checks.append(_repository(forge, forge.client.get(forge.where(), f"see {forge.repository}")))
        name = "forge-account"
        login = forge.us().login
        checks.append(Check(name, PASS, f"{forge.host} knows us as {login}"))
        if forge.app is not None:
            name = "forge-rights"
            checks.append(_rights(forge, forge.app))
    except ProviderError as error:
        checks.append(failed(name, error))
    return checks


def _repository(forge: GithubForge, found: dict[str, Any]) -> Check:
    if found.get("archived") is True:
        return Check(
            "forge", FAIL, f"{forge.repository} is archived", "Archived", "unarchive it, or correct spec.forge"
        )
    named = shown(found.get("full_name", ""), 200)
    if named.lower() != forge.repository.lower():
        return Check(
            "forge",
            WARN,
            f"{forge.repository} is called {named} now",
            "Moved",
            "correct spec.forge.repository in edgetrain.yaml",
        )
    return Check("forge", PASS, f"{forge.host} answers for {forge.repository}")


def _rights(forge: GithubForge, app: App) -> Check:
    given = app.installation().permissions
    wanted = {**CALLS, **(PUSH if forge.pushes else {})}
    if lacking := missing(wanted, given):
        return Check(
            "forge-rights",
            FAIL,
            f"the App has not the right to {', '.join(lacking)}",
            "AppPermissions",
            "give the App these rights, and accept them where it is installed",
        )
    if "workflows" in given:
        return Check(
            "forge-rights",
            WARN,
            "the App may change workflows; its tokens for pushing are made without that right",
            "AppTooStrong",
            "take the right to workflows from the App: it needs none",
        )
    return Check("forge-rights", PASS, "the App has the rights that it needs, and none to workflows")
