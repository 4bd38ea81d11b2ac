"""The testbed's GitHub with a site's repository as it should be: protected, guarded, with a runner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgetrain.core.ports import Check, CheckStatus, Outbound
from edgetrain.providers.github.app import CALLS, PUSH
from edgetrain.providers.github.provider import GithubForge
from testbed.github import GithubServer

from .scripted import forge_at

NAME, ENVIRONMENT = "hosp/models", "edgetrain-release"
LOOKS = {"administration": "read", "environments": "read", "secrets": "read"}


class Site:
    """The repository and its App. `permissions` are what the App was given."""

    def __init__(self, server: GithubServer, permissions: Mapping[str, str] | None = None) -> None:
        self.server = server
        server.create_repository(NAME, files={"README.md": "# Models"})
        self.app, self.key = server.app(permissions=permissions or {**CALLS, **PUSH, **LOOKS}, repositories=[NAME])
        server.protect(
            NAME,
            kind="ruleset",
            bypass_apps=[self.app],
            dismiss_stale=True,
            code_owners=True,
            last_push=True,
            checks=["check"],
            check_app=15368,
        )
        self.environment(secrets=["KEY"])
        server.runner(NAME, "st-anna", ("self-hosted", "edgetrain", "linux"))
        server.runner(NAME, "reader", ("self-hosted", "edgetrain-pull-requests"))
        server.actions(
            NAME,
            default_workflow_permissions="read",
            can_approve_pull_request_reviews=False,
            allowed_actions="selected",
        )

    def environment(self, name: str = ENVIRONMENT, **other: Any) -> None:
        """An environment as it should be, but for what is other."""
        good = {"reviewers": ["grace"], "prevent_self_review": True, "branches": "custom", "named": ["main"]}
        self.server.environment(NAME, name, **{**good, **other})

    def forge(self, **more: Any) -> GithubForge:
        """The provider as the App."""
        block = {"app": {"id": str(self.app), "privateKey": {"secret": "app-key"}}, **more}
        return self._at(block, {"app-key": self.key})

    def by_token(self, token: str, **more: Any) -> GithubForge:
        """The provider by a token, where the App's key is not."""
        block = {"app": {"id": str(self.app), "privateKey": {"secret": "app-key"}}, "token": {"secret": "token"}}
        return self._at({**block, **more}, {"token": token})

    def _at(self, block: Mapping[str, Any], secrets: Mapping[str, str]) -> GithubForge:
        return forge_at(
            self.server.api,
            block={"server": self.server.url, **block},
            secrets=secrets,
            outbound=Outbound(ca_bundle=str(self.server.ca)),
        )


def amiss(checks: Any) -> dict[str, tuple[CheckStatus, str]]:
    """Status and reason of the checks that did not pass, by name."""
    found: list[Check] = [one for one in checks if one.status is not CheckStatus.PASS]
    assert all(one.fix for one in found)
    return {one.name: (one.status, one.reason) for one in found}
