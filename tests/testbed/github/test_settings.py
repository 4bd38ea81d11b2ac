"""A repository's settings as the API tells them, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.github import GithubServer
from tests.testbed.github.conftest import REPOSITORY, Client

REPO = f"/repos/{REPOSITORY}"


def test_a_ruleset_tells_its_rules_to_all_and_its_bypass_to_admins(server: GithubServer, client: Client) -> None:
    app, _ = server.app(repositories=[REPOSITORY])
    server.user("root", {REPOSITORY: "admin"})
    server.protect(
        REPOSITORY,
        kind="ruleset",
        approvals=2,
        bypass_apps=[app],
        code_owners=True,
        checks=["validate"],
        check_app=15368,
    )
    ada, root = client("ada"), client("root")
    rules = {one["type"]: one.get("parameters", {}) for one in ada.get(f"{REPO}/rules/branches/main").json()}
    assert set(rules) == {"deletion", "non_fast_forward", "pull_request", "required_status_checks"}
    assert rules["pull_request"]["required_approving_review_count"] == 2
    assert rules["pull_request"]["require_code_owner_review"] is True
    assert rules["required_status_checks"]["required_status_checks"] == [
        {"context": "validate", "integration_id": 15368}
    ]
    assert ada.get(f"{REPO}/rules/branches/other/with/slashes").json() == []
    (ruleset,) = ada.get(f"{REPO}/rulesets").json()
    shown = ada.get(f"{REPO}/rulesets/{ruleset['id']}").json()
    assert (shown["enforcement"], shown["current_user_can_bypass"]) == ("active", "never")
    assert "bypass_actors" not in shown
    own = client(server.installation_token(app, REPOSITORY))
    assert own.get(f"{REPO}/rulesets/{ruleset['id']}").json()["current_user_can_bypass"] == "always"
    assert root.get(f"{REPO}/rulesets/{ruleset['id']}").json()["bypass_actors"] == [
        {"actor_id": app, "actor_type": "Integration", "bypass_mode": "always"}
    ]
    assert ada.get(f"{REPO}/branches/main").json()["protected"] is True


def test_a_classic_protection_is_told_by_the_branch_alone(server: GithubServer, client: Client) -> None:
    ada = client("ada")
    assert ada.get(f"{REPO}/branches/main").json()["protected"] is False
    server.protect(REPOSITORY, checks=["validate"])
    branch = ada.get(f"{REPO}/branches/main").json()
    assert (branch["protected"], branch["protection"]["enabled"]) == (True, True)
    assert branch["protection"]["required_status_checks"]["contexts"] == ["validate"]
    assert ada.get(f"{REPO}/rules/branches/main").json() == ada.get(f"{REPO}/rulesets").json() == []
    server.unprotect(REPOSITORY)
    assert ada.get(f"{REPO}/branches/main").json()["protected"] is False
    assert ada.get(f"{REPO}/branches/none").status_code == 404
    with pytest.raises(ValueError, match="classic, ruleset"):
        server.protect(REPOSITORY, kind="none")  # type: ignore[arg-type]


def test_environments_tell_who_guards_them(server: GithubServer, client: Client) -> None:
    server.team("hosp/owners", ["grace"])
    server.environment(
        REPOSITORY,
        "edgetrain-release",
        reviewers=["grace", "@hosp/owners"],
        prevent_self_review=True,
        branches="custom",
        secrets=["KEY"],
        variables={"SITE": "st-anna"},
    )
    server.environment(REPOSITORY, "open")
    ada = client("ada")
    assert ada.get(f"{REPO}/environments").json()["total_count"] == 2
    shown = ada.get(f"{REPO}/environments/Edgetrain-Release").json()
    rules: dict[str, Any] = {one["type"]: one for one in shown["protection_rules"]}
    assert set(rules) == {"required_reviewers", "branch_policy"}
    assert rules["required_reviewers"]["prevent_self_review"] is True
    assert [
        one["reviewer"].get("login") or one["reviewer"]["slug"] for one in rules["required_reviewers"]["reviewers"]
    ] == ["grace", "owners"]
    assert shown["deployment_branch_policy"] == {"protected_branches": False, "custom_branch_policies": True}
    secrets = ada.get(f"{REPO}/environments/edgetrain-release/secrets").json()
    assert [one["name"] for one in secrets["secrets"]] == ["KEY"]
    assert all("value" not in one for one in secrets["secrets"])
    (variable,) = ada.get(f"{REPO}/environments/edgetrain-release/variables").json()["variables"]
    assert (variable["name"], variable["value"]) == ("SITE", "st-anna")
    assert ada.get(f"{REPO}/environments/open").json()["protection_rules"] == []
    assert ada.get(f"{REPO}/environments/none").status_code == 404


def test_runners_and_rights_are_told_to_admins(server: GithubServer, client: Client) -> None:
    server.user("root", {REPOSITORY: "admin"})
    server.runner(REPOSITORY, "edge-1", ["self-hosted", "Linux", "st-anna"], ephemeral=False, online=False)
    server.actions(REPOSITORY, allowed_actions="selected", sha_pinning_required=True)
    server.secret(REPOSITORY, "APP_KEY")
    server.variable(REPOSITORY, "RUNNER", "edge")
    root, ada = client("root"), client("ada")
    for path in ("runners", "permissions", "permissions/workflow"):
        refused = ada.get(f"{REPO}/actions/{path}")
        assert (refused.status_code, refused.json()["message"]) == (403, "Must have admin rights to Repository.")
    (runner,) = root.get(f"{REPO}/actions/runners").json()["runners"]
    assert (runner["status"], runner["ephemeral"]) == ("offline", False)
    assert [(one["name"], one["type"]) for one in runner["labels"]] == [
        ("self-hosted", "read-only"),
        ("Linux", "read-only"),
        ("st-anna", "custom"),
    ]
    assert root.get(f"{REPO}/actions/permissions").json() == {
        "enabled": True,
        "allowed_actions": "selected",
        "sha_pinning_required": True,
    }
    assert root.get(f"{REPO}/actions/permissions/workflow").json() == {
        "default_workflow_permissions": "read",
        "can_approve_pull_request_reviews": False,
    }
    assert [one["name"] for one in ada.get(f"{REPO}/actions/secrets").json()["secrets"]] == ["APP_KEY"]
    assert ada.get(f"{REPO}/actions/variables").json()["variables"][0]["value"] == "edge"
    with pytest.raises(ValueError, match="unknown settings: mood"):
        server.actions(REPOSITORY, mood="good")


def test_an_app_is_told_what_its_permissions_allow(server: GithubServer, client: Client) -> None:
    app, _ = server.app(repositories=[REPOSITORY], permissions={"administration": "read", "secrets": "read"})
    own = client(server.installation_token(app, REPOSITORY))
    for path, status in (
        ("/actions/runners", 200),
        ("/actions/secrets", 200),
        ("/actions/variables", 403),
        ("/environments", 403),
        ("/branches/main", 403),
        ("/rulesets", 200),
    ):
        assert own.get(f"{REPO}{path}").status_code == status, path


def test_the_repository_tells_the_roles(server: GithubServer, client: Client) -> None:
    server.user("reader", {REPOSITORY: "read"})
    server.user("root", {REPOSITORY: "admin"})
    fork = server.fork(REPOSITORY, "ada")
    roles = {who: client(who).get(REPO).json()["permissions"] for who in ("reader", "ada", "root")}
    assert {who: [name for name, has in one.items() if has] for who, one in roles.items()} == {
        "reader": ["pull"],
        "ada": ["push", "triage", "pull"],
        "root": ["admin", "maintain", "push", "triage", "pull"],
    }
    shown = client("ada").get(f"/repos/{fork}").json()
    assert (shown["fork"], shown["parent"]["full_name"]) == (True, REPOSITORY)
    assert client("ada").get(REPO).json()["forks_count"] == 1
    server.grant(REPOSITORY, "reader", "")
    assert client("reader").get(REPO).status_code == 404
    with pytest.raises(ValueError, match="a role is one of"):
        server.grant(REPOSITORY, "reader", "king")
    with pytest.raises(ValueError, match="no new owner/name"):
        server.create_repository(REPOSITORY)
