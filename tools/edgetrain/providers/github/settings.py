"""What of the repository's settings protects the site, as far as the forge tells us; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgetrain.core.errors import Denied, NotFound, ProviderError
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.providers.diagnosis import failed
from edgetrain.providers.github import reading
from edgetrain.providers.github.app import LOOK, Minted
from edgetrain.providers.github.client import Client
from edgetrain.providers.github.environments import environments
from edgetrain.providers.github.protection import branch
from edgetrain.providers.github.runners import runners

if TYPE_CHECKING:
    from edgetrain.providers.github.provider import GithubForge

PASS, WARN, FAIL = CheckStatus.PASS, CheckStatus.WARN, CheckStatus.FAIL


@dataclass(frozen=True)
class Look:
    """One look at the settings, by a credential that may see as much of them as ours can."""

    forge: GithubForge
    client: Client

    def get(self, what: str, *parts: object) -> dict[str, Any]:
        """An object under the repository's path."""
        return self.client.get(self.forge.where(*parts), what)

    def variable(self, name: str) -> str | None:
        """A variable of the repository; None if there is none, or the forge does not tell."""
        try:
            for one in self.client.pages(
                self.forge.where("actions", "variables"), "see the variables", "variables"
            ):
                if one.get("name") == name:
                    return str(one.get("value"))
        except (Denied, NotFound):
            pass  # the workflows' own default counts then
        return None

    def names(self, what: str, key: str, *parts: object) -> list[str]:
        """The names in a list under the repository's path; never a value."""
        listed = self.client.pages(self.forge.where(*parts), what, key)
        return sorted(
            reading.read(self.client.host, lambda one: reading.text(one["name"], 200), one) for one in listed
        )


Part = Callable[[Look], Iterator[Check]]


def settings(forge: GithubForge) -> Sequence[Check]:
    """All checks. What the forge refuses to tell is a warning that says which right is needed."""
    try:
        look = Look(forge, _client(forge))
    except ProviderError as error:
        return [failed("forge", error)]
    parts: tuple[tuple[str, str, Part], ...] = (
        ("visibility", "metadata: read", _visibility),
        ("branch", "metadata: read", _branch),
        ("environment", "environments: read, or actions: read", environments),
        ("runners", "administration: read", runners),
        ("workflow-token", "administration: read", _workflow_token),
        ("actions", "administration: read", _actions),
        ("secrets", "secrets: read and environments: read", _secrets),
    )
    return [check for part in parts for check in _told(look, *part)]


def _client(forge: GithubForge) -> Client:
    app = forge.app
    if app is None:
        return forge.client

    def rights() -> dict[str, str]:
        given = app.installation().permissions
        return {"metadata": "read", **{name: "read" for name in LOOK if name in given}}

    return Client(forge.transport, Minted(app, rights), forge.client.sleep)


def _told(look: Look, name: str, right: str, part: Part) -> Iterator[Check]:
    try:
        yield from part(look)
    except (Denied, NotFound) as error:
        yield Check(
            name,
            WARN,
            f"the forge does not tell: {error.message}",
            "NotTold",
            f"give the credential the right to {right}, or look at the repository's settings by hand",
        )
    except ProviderError as error:
        yield Check(name, WARN, error.message, error.reason, error.fix)


def _visibility(look: Look) -> Iterator[Check]:
    found = look.get("see the repository")
    if found.get("private") is True:
        yield Check("visibility", PASS, "the repository is not public")
    else:
        yield Check(
            "visibility",
            WARN,
            "the repository is public: anybody may open a pull request, and read every record",
            "Public",
            "make it private; self-hosted runners are not made for public repositories",
        )


def _branch(look: Look) -> Iterator[Check]:
    yield from branch(look)


def _workflow_token(look: Look) -> Iterator[Check]:
    found = look.get("see the workflows' rights", "actions", "permissions", "workflow")
    if found.get("default_workflow_permissions") == "read":
        yield Check("workflow-token", PASS, "workflows have a token that may only read, unless they say more")
    else:
        yield Check(
            "workflow-token",
            FAIL,
            "every workflow has a token that may write",
            "WorkflowTokenWrites",
            "Settings, Actions, Workflow permissions: read repository contents",
        )
    if found.get("can_approve_pull_request_reviews") is False:
        yield Check("workflow-approvals", PASS, "workflows may not approve pull requests")
    else:
        yield Check(
            "workflow-approvals",
            FAIL,
            "workflows may approve pull requests",
            "WorkflowsApprove",
            "Settings, Actions: switch off “Allow GitHub Actions to create and approve pull requests”",
        )


def _actions(look: Look) -> Iterator[Check]:
    found = look.get("see which actions may run", "actions", "permissions")
    if found.get("enabled") is False:
        yield Check("actions", FAIL, "Actions are switched off", "ActionsOff", "Settings, Actions: allow them")
    elif found.get("allowed_actions") == "all" and not found.get("sha_pinning_required"):
        yield Check(
            "actions",
            WARN,
            "every action may run, by any name",
            "AnyAction",
            "Settings, Actions: allow chosen actions only, or require them to be pinned to a commit",
        )
    else:
        yield Check("actions", PASS, "only chosen or pinned actions may run")


def _secrets(look: Look) -> Iterator[Check]:
    """By their names only."""
    name = look.forge.environment
    everywhere = look.names("see the secrets' names", "secrets", "actions", "secrets")
    guarded = look.names("see the environment's secrets' names", "secrets", "environments", name, "secrets")
    if everywhere:
        yield Check(
            "secrets",
            WARN,
            f"workflows of every branch can read: {', '.join(everywhere[:20])}",
            "SecretsEverywhere",
            f"move what can be moved into the environment {name}, or onto the runner host",
        )
    else:
        yield Check("secrets", PASS, "no secret can be read by workflows of every branch")
    if guarded:
        yield Check("environment-secrets", PASS, f"environment {name} holds: {', '.join(guarded[:20])}")
