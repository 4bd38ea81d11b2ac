"""What doctor and `init --check` find out of a repository's settings, each thing that can be amiss."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from edgetrain.core.ports import CheckStatus
from edgetrain.providers.github.app import CALLS, PUSH
from testbed.github import GithubServer

from .hub import ENVIRONMENT, LOOKS, NAME, Site, amiss

FAIL, WARN = CheckStatus.FAIL, CheckStatus.WARN


@pytest.fixture
def site() -> Iterator[Site]:
    with GithubServer() as server:
        yield Site(server)
        assert server.violations == []


def protect(site: Site, **more: object) -> None:
    """The ruleset anew."""
    whole = {
        "kind": "ruleset",
        "bypass_apps": [site.app],
        "dismiss_stale": True,
        "last_push": True,
        "code_owners": True,
        "checks": ["check"],
        "check_app": 15368,
    }
    site.server.protect(NAME, **{**whole, **more})  # type: ignore[arg-type]


def test_a_good_repository_has_nothing_amiss(site: Site) -> None:
    forge = site.forge()
    assert amiss(forge.diagnose()) == {}
    checks = forge.settings()
    # The forge shows who may pass by to an administrator only, which the App is not.
    assert amiss(checks) == {"branch-bypass": (WARN, "NotTold")}
    assert {one.name for one in checks} >= {
        "visibility",
        "branch-pull-request",
        "branch-approvals",
        "branch-code-owners",
        "branch-stale-approvals",
        "branch-last-push",
        "branch-history",
        "branch-checks",
        "branch-checks-source",
        "environment",
        "environment-branches",
        "runners",
        "workflow-token",
        "workflow-approvals",
        "actions",
        "secrets",
    }


def test_an_administrator_sees_all(site: Site) -> None:
    assert amiss(site.by_token(site.server.user("hosp", {NAME: "admin"})).settings()) == {}


@pytest.mark.parametrize(
    ("change", "name", "found"),
    [
        (lambda s: s.server.unprotect(NAME), "branch-pull-request", (FAIL, "Unprotected")),
        (lambda s: protect(s, kind="classic"), "branch-pull-request", (WARN, "OldProtection")),
        (lambda s: protect(s, approvals=0), "branch-approvals", (FAIL, "NoApproval")),
        (lambda s: protect(s, code_owners=False), "branch-code-owners", (FAIL, "NoCodeOwners")),
        (lambda s: protect(s, dismiss_stale=False), "branch-stale-approvals", (FAIL, "StaleApprovals")),
        (lambda s: protect(s, last_push=False), "branch-last-push", (FAIL, "LastPushApproval")),
        (lambda s: protect(s, checks=()), "branch-checks", (WARN, "NoChecks")),
        (lambda s: protect(s, check_app=None), "branch-checks-source", (WARN, "CheckFromAnybody")),
        (lambda s: protect(s, bypass_users=["ada"]), "branch-bypass", (FAIL, "Bypass")),
        (lambda s: protect(s, bypass_apps=[s.app, 77]), "branch-bypass", (FAIL, "Bypass")),
        (lambda s: protect(s, bypass_apps=[]), "branch-bypass", (FAIL, "NoBypass")),
        (
            lambda s: s.environment(reviewers=()),
            "environment",
            (FAIL, "NoReviewers"),
        ),
        (lambda s: s.environment(prevent_self_review=False), "environment", (WARN, "SelfReview")),
        (lambda s: s.environment(branches=""), "environment-branches", (WARN, "AnyBranch")),
        (lambda s: s.environment(named=["main", "try/*"]), "environment-branches", (WARN, "AnyBranch")),
        # GitHub counts branch protection rules for that, and this branch has a ruleset.
        (lambda s: s.environment(branches="protected"), "environment-branches", (WARN, "ProtectedBranches")),
        (
            lambda s: s.server.runner(NAME, "st-anna", ("self-hosted", "edgetrain"), online=False),
            "runners",
            (WARN, "RunnerOffline"),
        ),
        (lambda s: s.server.runner(NAME, "st-anna", ("self-hosted",)), "runners", (FAIL, "NoRunner")),
        (
            lambda s: s.server.variable(NAME, "EDGETRAIN_RUNNER", '["self-hosted", "other"]'),
            "runners",
            (FAIL, "NoRunner"),
        ),
        (
            lambda s: s.server.actions(NAME, default_workflow_permissions="write"),
            "workflow-token",
            (FAIL, "WorkflowTokenWrites"),
        ),
        (
            lambda s: s.server.actions(NAME, can_approve_pull_request_reviews=True),
            "workflow-approvals",
            (FAIL, "WorkflowsApprove"),
        ),
        (lambda s: s.server.actions(NAME, allowed_actions="all"), "actions", (WARN, "AnyAction")),
        (lambda s: s.server.actions(NAME, enabled=False), "actions", (FAIL, "ActionsOff")),
        (lambda s: s.server.secret(NAME, "AZURE_SECRET"), "secrets", (WARN, "SecretsEverywhere")),
    ],
)
def test_each_thing_amiss_is_told(
    site: Site, change: Callable[[Site], None], name: str, found: tuple[CheckStatus, str]
) -> None:
    change(site)
    assert amiss(site.by_token(site.server.user("hosp", {NAME: "admin"})).settings()) == {name: found}


def test_the_app_too_is_told_of_a_branch_without_rules(site: Site) -> None:
    site.server.unprotect(NAME)
    assert amiss(site.forge().settings())["branch-pull-request"] == (FAIL, "Unprotected")


def test_an_environment_of_another_name_is_looked_for(site: Site) -> None:
    found = amiss(site.forge(environment="production").settings())
    assert found["environment"] == (FAIL, "NoEnvironment")


@pytest.mark.parametrize("value", ["no json", '{"a": 1}', "[]", "[3]"])
def test_a_variable_that_names_no_labels_is_as_none(site: Site, value: str) -> None:
    site.server.variable(NAME, "EDGETRAIN_RUNNER", value)
    assert "runners" not in amiss(site.by_token(site.server.user("hosp", {NAME: "admin"})).settings())


def test_one_label_may_stand_alone(site: Site) -> None:
    site.server.variable(NAME, "EDGETRAIN_RUNNER", '"other"')
    forge = site.by_token(site.server.user("hosp", {NAME: "admin"}))
    assert amiss(forge.settings())["runners"] == (FAIL, "NoRunner")
    site.server.variable(NAME, "EDGETRAIN_RUNNER", '"EDGETRAIN"')
    assert "runners" not in amiss(forge.settings())


@pytest.fixture
def grouped() -> Iterator[Site]:
    """A repository without a runner of its own."""
    with GithubServer() as server:
        server.create_repository(NAME, files={"README.md": "# Models"})
        site = Site.__new__(Site)
        site.server = server
        rights = {**CALLS, **PUSH, **LOOKS, "organization_self_hosted_runners": "read"}
        site.app, site.key = server.app(permissions=rights, repositories=[NAME])
        yield site
        assert server.violations == []


SITE, READER = ("self-hosted", "st-anna"), ("self-hosted", "edgetrain-pull-requests")


def runners_amiss(site: Site, **more: object) -> dict[str, tuple[CheckStatus, str]]:
    found = amiss(site.forge(runner=list(SITE), **more).settings())
    return {name: what for name, what in found.items() if "runner" in name}


def test_the_runner_is_found_in_the_organizations_groups(grouped: Site) -> None:
    grouped.server.runner_group(
        NAME, "st-anna", {"one": SITE, "two": SITE}, workflows=["hosp/models/apply.yml@main"]
    )
    grouped.server.runner_group(NAME, "readers", {"three": READER})
    assert runners_amiss(grouped) == {}
    checks = {one.name: one.message for one in grouped.forge(runner=list(SITE)).settings()}
    assert checks["runners"] == "2 of 2 runners with the labels self-hosted, st-anna are online"
    assert "readers" not in checks["runner-group"]


@pytest.mark.parametrize(
    ("settings", "name", "found"),
    [
        ({"public": True}, "runner-group", (FAIL, "OpenRunnerGroup")),
        ({"selected": False}, "runner-group-repositories", (WARN, "SharedRunnerGroup")),
        ({"workflows": ()}, "runner-group-workflows", (WARN, "AnyWorkflow")),
        ({"online": False}, "runners", (WARN, "RunnerOffline")),
        ({"runners": {"one": SITE[:1]}}, "runners", (FAIL, "NoRunner")),
        ({"runners": {"one": SITE, "two": READER}}, "pull-request-runner", (FAIL, "ReadsAtTheSite")),
        ({"runners": {"one": (*SITE, *READER)}}, "pull-request-runner", (FAIL, "ReadsAtTheSite")),
    ],
)
def test_whom_the_runners_group_lets_in_is_told(
    grouped: Site, settings: dict[str, object], name: str, found: tuple[CheckStatus, str]
) -> None:
    whole = {"runners": {"one": SITE}, "workflows": ["hosp/models/apply.yml@main"], **settings}
    grouped.server.runner_group(NAME, "st-anna", **whole)  # type: ignore[arg-type]
    grouped.server.runner_group(NAME, "readers", {"three": READER})
    assert runners_amiss(grouped) == {name: found}


def test_groups_of_others_do_not_count(grouped: Site) -> None:
    grouped.server.create_repository("hosp/other", files={"README.md": "#"})
    grouped.server.runner_group("hosp/other", "theirs", {"one": SITE, "two": READER})
    assert runners_amiss(grouped) == {
        "runners": (FAIL, "NoRunner"),
        "pull-request-runner": (FAIL, "NoReader"),
    }


def test_labels_that_differ_are_told(site: Site) -> None:
    site.server.variable(NAME, "EDGETRAIN_RUNNER", '["self-hosted", "other"]')
    admin = site.server.user("hosp", {NAME: "admin"})
    forge = site.by_token(admin, runner=["self-hosted", "edgetrain"])
    assert amiss(forge.settings())["runner-labels"] == (WARN, "LabelsDiffer")
    site.server.variable(NAME, "EDGETRAIN_RUNNER", '["edgetrain", "Self-Hosted"]')
    assert "runner-labels" not in amiss(forge.settings())


def test_groups_that_are_not_told_are_to_be_looked_for_by_hand() -> None:
    with GithubServer() as server:
        server.create_repository(NAME, files={"README.md": "# Models"})
        site = Site.__new__(Site)
        site.server = server
        site.app, site.key = server.app(permissions={**CALLS, **PUSH, **LOOKS}, repositories=[NAME])
        found = {one.name: one for one in site.forge().settings()}
        assert found["runners"].reason == "NotTold"
        assert "admin:org" in found["runners"].fix
        assert "pull-request-runner" not in found


def test_what_signs_in_to_azure_is_bound_to_the_branch(site: Site) -> None:
    forge = site.by_token(site.server.user("hosp", {NAME: "admin"}), signIn="st-anna")
    assert amiss(forge.settings())["azure-environment"] == (FAIL, "NoEnvironment")
    site.environment("st-anna", branches="")
    assert amiss(forge.settings())["azure-environment"] == (FAIL, "AnyBranch")
    site.environment("st-anna", reviewers=())
    assert "azure-environment" not in amiss(forge.settings())
    # Where the workflows are the repository's own, a variable names it.
    site.server.variable(NAME, "EDGETRAIN_ENVIRONMENT", "elsewhere")
    assert amiss(forge.settings())["azure-environment"] == (FAIL, "NoEnvironment")
    assert "azure-environment" not in {one.name for one in site.forge().settings()}


def test_a_public_repository_is_warned_of() -> None:
    with GithubServer() as server:
        server.create_repository(NAME, files={"README.md": "# Models"}, private=False)
        forge = Site.__new__(Site)
        forge.server, (forge.app, forge.key) = server, server.app(repositories=[NAME])
        assert amiss(forge.forge().settings())["visibility"] == (WARN, "Public")


def test_deploy_keys_are_told_to_be_strong(site: Site) -> None:
    found = amiss(site.by_token(site.server.user("hosp", {NAME: "admin"}), push="origin").settings())
    assert found["branch-bypass"] == (FAIL, "Bypass")  # the App pushes nothing here, and may still pass by


def test_what_is_not_told_says_which_right_is_needed() -> None:
    with GithubServer() as server:
        forge = Site(server, {**CALLS, **PUSH}).forge()
        checks = {one.name: one for one in forge.settings()}
        assert server.violations == []
    untold = {name for name, one in checks.items() if one.reason == "NotTold"}
    assert untold == {"branch-bypass", "runners", "workflow-token", "actions", "secrets"}
    assert "administration: read" in checks["runners"].fix
    assert "secrets: read" in checks["secrets"].fix
    assert all(checks[name].status is WARN for name in untold)


def test_looking_uses_no_right_to_change_anything(site: Site) -> None:
    site.server.requests.clear()
    site.forge().settings()
    methods = {(one.method, one.path.rpartition("/")[2]) for one in site.server.requests if one.method != "GET"}
    assert methods == {("POST", "access_tokens")}
    assert set(LOOKS.values()) == {"read"}


def test_secrets_are_named_and_nothing_else_of_them(site: Site) -> None:
    checks = {one.name: one.message for one in site.forge().settings()}
    assert checks["environment-secrets"] == f"environment {ENVIRONMENT} holds: KEY"


# doctor


def test_an_app_that_may_change_workflows_is_warned_of() -> None:
    with GithubServer() as server:
        site = Site(server, {**CALLS, **PUSH, "workflows": "write"})
        assert amiss(site.forge().diagnose()) == {"forge-rights": (WARN, "AppTooStrong")}


def test_an_app_without_its_rights_is_told() -> None:
    with GithubServer() as server:
        site = Site(server, {**CALLS, "metadata": "read"})
        assert amiss(site.forge().diagnose()) == {"forge-rights": (FAIL, "AppPermissions")}
        assert amiss(site.forge(push="origin").diagnose()) == {}


def test_a_repository_that_is_not_there_or_unreachable_is_told(site: Site) -> None:
    found = amiss(site.by_token(site.server.user("hosp", {NAME: "admin"}), repository="hosp/none").diagnose())
    assert found == {"forge": (FAIL, "NotThere")}
    site.server.faults.add(".", status=503, count=50)
    assert amiss(site.forge().diagnose()) == {"forge": (FAIL, "ForgeBusy")}
    assert {one[1] for one in amiss(site.forge().settings()).values()} == {"ForgeBusy"}
