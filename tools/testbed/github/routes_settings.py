"""The calls about a repository and its settings: protection, environments, runners, secrets' names, rights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbed.github import protection, shapes
from testbed.github.rest import REPO, Answer, Call, Refused, route
from testbed.github.store import Record, Store

ENVIRONMENT = f"{REPO}/environments/{{environment_name}}"


@route("GET", REPO, "metadata:read")
def repository(call: Call) -> Answer:
    """The repository itself."""
    record, methods = call.repository, call.repository["merge_methods"]
    made = shapes.repository(call.store, record, call.actor) | {
        "network_count": 0,
        "subscribers_count": 0,
        "temp_clone_token": None,
    }
    if record["fork_of"] is not None and (parent := call.store.repository_of(record["fork_of"])):
        made["parent"] = made["source"] = shapes.repository(call.store, parent)
    if call.may("contents", "write", "write"):
        made |= {
            "allow_merge_commit": "merge" in methods,
            "allow_squash_merge": "squash" in methods,
            "allow_rebase_merge": False,
            "allow_auto_merge": False,
            "delete_branch_on_merge": record["delete_branch_on_merge"],
        }
    return Answer(200, made)


@route("GET", f"{REPO}/branches/{{branch}}", "contents:read")
def branch(call: Call) -> Answer:
    """A branch, and whether a classic protection or a ruleset guards it."""
    name = call.path["branch"]
    sha = call.bare.branch(name)
    if sha is None:
        raise Refused(404, "Branch not found")
    found = call.repository["protections"].get(name)
    url = f"{call.url}/protection"
    classic = found if found and found["kind"] == "classic" else None
    contexts = classic["checks"] if classic else []
    checks = {
        "enforcement_level": "everyone" if contexts else "off",
        "contexts": contexts,
        "checks": [{"context": one, "app_id": None} for one in contexts],
    }
    page = f"{call.store.web}/{call.repository['full_name']}/tree/{name}"
    return Answer(
        200,
        {
            "name": name,
            "commit": shapes.commit(call.store, call.repository, call.bare.commit(sha)),
            "_links": {"self": call.url, "html": page},
            "protected": found is not None,
            "protection": {"enabled": classic is not None, "required_status_checks": checks},
            "protection_url": url,
        },
    )


def _rules(found: Mapping[str, Any]) -> list[Record]:
    """The rules of a ruleset."""
    pull = {
        "required_approving_review_count": found["approvals"],
        "dismiss_stale_reviews_on_push": found["dismiss_stale"],
        "require_code_owner_review": found["code_owners"],
        "require_last_push_approval": found["last_push"],
        "required_review_thread_resolution": False,
        "allowed_merge_methods": ["merge", "squash"],
    }
    source = {"integration_id": found["check_app"]} if found["check_app"] else {}
    checks = {
        "strict_required_status_checks_policy": False,
        "do_not_enforce_on_create": False,
        "required_status_checks": [{"context": one, **source} for one in found["checks"]],
    }
    rules: list[Record] = [
        {"type": "deletion"},
        {"type": "non_fast_forward"},
        {"type": "pull_request", "parameters": pull},
    ]
    return [*rules, {"type": "required_status_checks", "parameters": checks}] if found["checks"] else rules


@route("GET", f"{REPO}/rules/branches/{{branch}}", "metadata:read")
def rules(call: Call) -> Answer:
    """What rulesets ask for on the branch; classic protections are not among them."""
    found = call.repository["protections"].get(call.path["branch"])
    if found is None or found["kind"] == "classic":
        return call.page([], lambda one: one)
    source = {
        "ruleset_source_type": "Repository",
        "ruleset_source": call.repository["full_name"],
        "ruleset_id": found["id"],
    }
    return call.page(_rules(found), lambda one: one | source)


def _rulesets(call: Call) -> list[Record]:
    return [one for one in call.repository["protections"].values() if one["kind"] == "ruleset"]


def _ruleset(call: Call, found: Mapping[str, Any]) -> Record:
    api = f"{call.store.api}/repos/{call.repository['full_name']}/rulesets/{found['id']}"
    return {
        "id": found["id"],
        "name": found["name"],
        "target": "branch",
        "source_type": "Repository",
        "source": call.repository["full_name"],
        "enforcement": "active",
        "node_id": shapes.node("RepositoryRuleset", found["id"]),
        "_links": {
            "self": {"href": api},
            "html": {"href": f"{call.store.web}/{call.repository['full_name']}/rules/{found['id']}"},
        },
        "created_at": found["created_at"],
        "updated_at": found["updated_at"],
    }


@route("GET", f"{REPO}/rulesets", "metadata:read")
def rulesets(call: Call) -> Answer:
    """All, without their rules."""
    return call.page(_rulesets(call), lambda one: _ruleset(call, one))


@route("GET", f"{REPO}/rulesets/{{ruleset_id}}", "metadata:read")
def ruleset(call: Call) -> Answer:
    """One; who passes it by is told only to who may change it."""
    found = next((one for one in _rulesets(call) if str(one["id"]) == call.path["ruleset_id"]), None)
    if found is None:
        raise Refused(404, "Not Found")
    passes = protection.bypasses(found, call.actor)
    made = _ruleset(call, found) | {
        "conditions": {"ref_name": {"include": [f"refs/heads/{found['branch']}"], "exclude": []}},
        "rules": _rules(found),
        "current_user_can_bypass": "always" if passes else "never",
    }
    if call.may("administration", "write", "admin"):
        people = (call.store.account(login)["id"] for login in found["bypass_users"])
        made["bypass_actors"] = [
            *(
                {"actor_id": number, "actor_type": "Integration", "bypass_mode": "always"}
                for number in found["bypass_apps"]
            ),
            *({"actor_id": number, "actor_type": "User", "bypass_mode": "always"} for number in people),
        ]
    return Answer(200, made)


def _environment(store: Store, repository: Record, record: Record) -> Record:
    """`environment`."""
    api = f"{store.api}/repos/{repository['full_name']}/environments/{record['name']}"
    page = f"{store.web}/{repository['full_name']}/deployments/activity_log?environments_filter={record['name']}"
    rules: list[Record] = []
    if record["wait"]:
        rules.append({"id": record["id"] + 1, "type": "wait_timer", "wait_timer": record["wait"]})
    if record["reviewers"]:
        rules.append(
            {
                "id": record["id"] + 2,
                "type": "required_reviewers",
                "prevent_self_review": record["prevent_self_review"],
                "reviewers": [
                    {"type": "Team", "reviewer": shapes.team(store, one.removeprefix("@").lower())}
                    if "/" in one
                    else {"type": "User", "reviewer": shapes.user(store, store.account(one.removeprefix("@")))}
                    for one in record["reviewers"]
                ],
            }
        )
    policy = None
    if record["branches"]:
        rules.append({"id": record["id"] + 3, "type": "branch_policy"})
        protected = record["branches"] == "protected"
        policy = {"protected_branches": protected, "custom_branch_policies": not protected}
    return {
        "id": record["id"],
        "node_id": shapes.node("Environment", record["id"]),
        "name": record["name"],
        "url": api,
        "html_url": page,
        "created_at": record["created_at"],
        "updated_at": record["created_at"],
        "protection_rules": [{"node_id": shapes.node("Gate", one["id"]), **one} for one in rules],
        "deployment_branch_policy": policy,
    }


@route("GET", f"{REPO}/environments", "actions:read")
def environments(call: Call) -> Answer:
    """All."""
    found = list(call.repository["environments"].values())
    return call.page(found, lambda one: _environment(call.store, call.repository, one), "environments")


def _named(call: Call) -> Record:
    found: Record | None = call.repository["environments"].get(call.path["environment_name"].lower())
    if found is None:
        raise Refused(404, "Not Found")
    return found


@route("GET", ENVIRONMENT, "actions:read")
def environment(call: Call) -> Answer:
    """One."""
    return Answer(200, _environment(call.store, call.repository, _named(call)))


def _secret(record: Record) -> Record:
    return {name: record[name] for name in ("name", "created_at", "updated_at")}


@route("GET", f"{ENVIRONMENT}/deployment-branch-policies", "actions:read")
def branch_policies(call: Call) -> Answer:
    """The branches that jobs of an environment may come from."""
    shape = {"node_id": "DBP_"}
    return call.page(_named(call).get("named", []), lambda one: {**shape, **one}, "branch_policies")


@route("GET", f"{ENVIRONMENT}/secrets", "environments:read", role="write")
def environment_secrets(call: Call) -> Answer:
    """The names of an environment's secrets; nobody is told their values."""
    return call.page(list(_named(call)["secrets"].values()), _secret, "secrets")


@route("GET", f"{ENVIRONMENT}/variables", "environments:read", role="write")
def environment_variables(call: Call) -> Answer:
    """An environment's variables."""
    return call.page(list(_named(call)["variables"].values()), lambda one: one, "variables")


@route("GET", f"{REPO}/actions/secrets", "secrets:read", role="write")
def secrets(call: Call) -> Answer:
    """The names of the repository's secrets."""
    return call.page(list(call.repository["secrets"].values()), _secret, "secrets")


@route("GET", f"{REPO}/actions/variables", "variables:read", role="write")
def variables(call: Call) -> Answer:
    """The repository's variables."""
    return call.page(list(call.repository["variables"].values()), lambda one: one, "variables")


@route("GET", f"{REPO}/actions/runners", "administration:read", role="admin")
def runners(call: Call) -> Answer:
    """The repository's own runners."""
    return call.page(list(call.repository["runners"].values()), lambda one: one, "runners")


@route("GET", f"{REPO}/actions/permissions", "administration:read", role="admin")
def permissions(call: Call) -> Answer:
    """Whether workflows run, and which actions they may use."""
    settings = call.repository["actions"]
    return Answer(200, {name: settings[name] for name in ("enabled", "allowed_actions", "sha_pinning_required")})


@route("GET", f"{REPO}/actions/permissions/workflow", "administration:read", role="admin")
def workflow_permissions(call: Call) -> Answer:
    """What a job's own token may by default."""
    settings = call.repository["actions"]
    names = ("default_workflow_permissions", "can_approve_pull_request_reviews")
    return Answer(200, {name: settings[name] for name in names})
