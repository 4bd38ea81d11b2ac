"""The calls about an organization's runner groups. Who administers one of its repositories is its owner here."""

from __future__ import annotations

from testbed.github.access import ROLES, role
from testbed.github.openapi import GROUPS
from testbed.github.rest import Answer, Call, Refused, route
from testbed.github.store import Record

RIGHT = "organization_self_hosted_runners"


def _told(call: Call) -> dict[str, Record]:
    """The organization's groups. Raises Refused where its settings are nobody's business."""
    owner, actor, store = call.path["org"].lower(), call.actor, call.store
    mine = [one for one in store.state["repositories"].values() if one["owner"].lower() == owner]
    if not mine:
        raise Refused(404, "Not Found")
    if actor.kind == "anonymous":
        raise Refused(401, "Requires authentication")
    if actor.permissions is not None and actor.permissions.get(RIGHT) not in ("read", "write"):
        raise Refused(403, "Resource not accessible by integration")
    if not actor.machine and all(role(store, one, actor.login) < ROLES["admin"] for one in mine):
        raise Refused(403, "Must have admin rights to Organization.")
    found: dict[str, Record] = store.state.get("runner_groups", {}).get(owner, {})
    return found


def _one(call: Call) -> Record:
    found = _told(call).get(call.path["runner_group_id"])
    if found is None:
        raise Refused(404, "Not Found")
    return found


def _shape(call: Call, found: Record) -> Record:
    where = f"{call.store.api}/orgs/{call.path['org']}/actions/runner-groups/{found['id']}"
    return {
        "id": found["id"],
        "name": found["name"],
        "visibility": found["visibility"],
        "default": False,
        "selected_repositories_url": f"{where}/repositories",
        "runners_url": f"{where}/runners",
        "inherited": False,
        "allows_public_repositories": found["public"],
        "restricted_to_workflows": bool(found["workflows"]),
        "selected_workflows": found["workflows"],
        "workflow_restrictions_read_only": False,
    }


@route("GET", GROUPS)
def groups(call: Call) -> Answer:
    """All, or those that serve one repository."""
    found = list(_told(call).values())
    if name := call.query.get("visible_to_repository"):
        try:
            repository = call.store.repository(f"{call.path['org']}/{name}")
        except LookupError:
            raise Refused(404, "Not Found") from None
        found = [one for one in found if one["visibility"] == "all" or repository["id"] in one["repositories"]]
    return call.page(found, lambda one: _shape(call, one), "runner_groups")


@route("GET", f"{GROUPS}/{{runner_group_id}}")
def group(call: Call) -> Answer:
    """One."""
    return Answer(200, _shape(call, _one(call)))


@route("GET", f"{GROUPS}/{{runner_group_id}}/runners")
def group_runners(call: Call) -> Answer:
    """Its runners."""
    return call.page(_one(call)["runners"], lambda one: one, "runners")
