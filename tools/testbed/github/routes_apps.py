"""The calls about who asks: Apps, installations and their tokens, users, limits."""

from __future__ import annotations

from collections.abc import Mapping

from testbed.github import shapes
from testbed.github.access import LEVELS, installation_of, installed_on, new_token
from testbed.github.rest import REPO, Answer, Call, Refused, app_record, route
from testbed.github.store import Record, Store


@route("GET", "/app", app=True)
def app(call: Call) -> Answer:
    """The App that signed the request."""
    record = app_record(call)
    count = sum(one["app"] == record["id"] for one in call.store.state["installations"].values())
    return Answer(200, shapes.app(call.store, record) | {"installations_count": count})


@route("GET", f"{REPO}/installation", app=True)
def installation(call: Call) -> Answer:
    """The App's installation that covers the repository."""
    record = app_record(call)
    found = installation_of(call.store, record["id"], call.repository)
    if found is None:
        raise Refused(404, "Not Found")
    return Answer(200, _shape(call.store, found, record))


def _shape(store: Store, record: Record, app: Record) -> Record:
    """`installation`."""
    account = shapes.user_of(store, record["account"]) or {}
    return {
        "id": record["id"],
        "client_id": app["client_id"],
        "account": account,
        "repository_selection": "all" if record["repositories"] is None else "selected",
        "access_tokens_url": f"{store.api}/app/installations/{record['id']}/access_tokens",
        "repositories_url": f"{store.api}/installation/repositories",
        "html_url": f"{store.web}/settings/installations/{record['id']}",
        "app_id": app["id"],
        "app_slug": app["slug"],
        "target_id": record["account"],
        "target_type": account["type"],
        "permissions": {"metadata": "read", **record["permissions"]},
        "events": [],
        "created_at": record["created_at"],
        "updated_at": record["created_at"],
        "single_file_name": None,
        "has_multiple_single_files": False,
        "single_file_paths": [],
        "suspended_by": None,
        "suspended_at": None,
    }


@route("POST", "/app/installations/{installation_id}/access_tokens", app=True)
def token(call: Call) -> Answer:
    """A token of the installation, with no more than is asked for."""
    app = app_record(call)
    found = call.store.state["installations"].get(call.path["installation_id"])
    if found is None or found["app"] != app["id"]:
        raise Refused(404, "Not Found")
    held = {"metadata": "read", **found["permissions"]}
    asked: Mapping[str, str] = call.body.get("permissions") or held
    if any(LEVELS[level] > LEVELS.get(held.get(name, ""), 0) for name, level in asked.items()):
        raise Refused(422, "The permissions requested are not granted to this installation.")
    selected = _selected(call, found)
    made = new_token(
        call.store,
        "installation",
        call.actor.account,
        permissions={"metadata": "read", **asked},
        repositories=selected,
        app=app["id"],
        installation=found["id"],
        expires=True,
    )
    body: Record = {
        "token": made,
        "expires_at": call.store.state["tokens"][made]["expires_at"],
        "permissions": {"metadata": "read", **asked},
        "repository_selection": "all" if selected is None else "selected",
    }
    if selected is not None:
        known = (call.store.repository_of(number) for number in selected)
        body["repositories"] = [shapes.repository(call.store, one) for one in known if one]
    return Answer(201, body)


def _selected(call: Call, installation: Record) -> list[int] | None:
    """The repositories that the token is for; None for all that the installation has or will have."""
    names, numbers = call.body.get("repositories"), call.body.get("repository_ids")
    if names is None and numbers is None:
        return None if installation["repositories"] is None else list(installation["repositories"])
    covered = {number: call.store.repository_of(number) for number in installed_on(call.store, installation)}
    by_name = {one["name"].lower(): number for number, one in covered.items() if one}
    wanted = [by_name.get(name.lower(), 0) for name in names or []] + list(numbers or [])
    if any(number not in covered for number in wanted):
        raise Refused(
            422,
            "There is at least one repository that does not exist or is not accessible to the parent installation.",
        )
    return list(dict.fromkeys(wanted))


@route("DELETE", "/installation/token")
def revoke(call: Call) -> Answer:
    """The token that asks is no longer good."""
    if call.actor.kind not in ("installation", "job"):
        raise Refused(401, "Bad credentials")
    del call.store.state["tokens"][call.actor.token]
    return Answer(204)


@route("GET", "/installation/repositories")
def repositories(call: Call) -> Answer:
    """Those that the token covers."""
    if call.actor.kind not in ("installation", "job"):
        raise Refused(403, "You must authenticate with an installation access token in order to list repositories.")
    found = [call.store.repository_of(number) for number in call.actor.repositories or ()]
    answer = call.page(
        [one for one in found if one], lambda one: shapes.repository(call.store, one), "repositories"
    )
    return Answer(200, answer.body | {"repository_selection": "selected"}, answer.headers)


@route("GET", "/rate_limit")
def rate_limit(call: Call) -> Answer:
    """What is left; asking costs nothing."""
    figures = call.rates.spend(call.actor.login or "anonymous", 0)[1]
    search = {"limit": 30, "used": 0, "remaining": 30, "reset": figures["reset"]}
    return Answer(200, {"resources": {"core": figures, "search": search}, "rate": figures})


@route("GET", "/user")
def own_user(call: Call) -> Answer:
    """Who asks. A token of an installation or a job is no user."""
    if call.actor.kind == "anonymous":
        raise Refused(401, "Requires authentication")
    if call.actor.machine:
        raise Refused(403, "Resource not accessible by integration")
    return Answer(200, _profile(call.store, call.store.account_of(call.actor.account)))


@route("GET", "/users/{username}")
def user(call: Call) -> Answer:
    """A profile; bots have one too."""
    found = call.store.known(call.path["username"])
    if found is None:
        raise Refused(404, "Not Found")
    return Answer(200, _profile(call.store, found))


def _profile(store: Store, account: Record) -> Record:
    """`public-user`."""
    empty = ("company", "location", "email", "hireable", "bio", "twitter_username")
    return {
        **shapes.user(store, account),
        "name": account.get("name"),
        "blog": "",
        **dict.fromkeys(empty),
        **dict.fromkeys(("public_repos", "public_gists", "followers", "following"), 0),
        "created_at": account["created_at"],
        "updated_at": account["created_at"],
    }
