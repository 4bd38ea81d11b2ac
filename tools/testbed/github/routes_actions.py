"""The calls about workflow runs, their artifacts, and checks."""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import urlencode

from testbed.github import shapes, shapes_pulls
from testbed.github.rest import REPO, Answer, Call, Refused, route
from testbed.github.store import ACTIONS_APP, ACTIONS_BOT, Record, Store

SIGNED_FOR = 60  # seconds that the address of an artifact is good for


def artifact_file(store: Store, number: int) -> str:
    """The name of the artifact's file in the data folder."""
    folder = store.folder / "artifacts"
    folder.mkdir(exist_ok=True)
    return str(folder / f"{number}.zip")


def signature(store: Store, number: str, expires: str) -> str:
    """What an address of an artifact is signed with."""
    key = bytes.fromhex(store.state["signing"])
    return hmac.new(key, f"{number}\n{expires}".encode(), hashlib.sha256).hexdigest()


@route("GET", f"{REPO}/actions/runs", "actions:read")
def runs(call: Call) -> Answer:
    """Newest first."""
    query = call.query
    wanted = {"event": "event", "branch": "head_branch", "head_sha": "head_sha"}
    found = [
        one
        for one in call.repository["runs"].values()
        if all(query.get(name) in (None, one[key]) for name, key in wanted.items())
        and query.get("status") in (None, one["status"], one["conclusion"])
    ]
    found.sort(key=lambda one: one["id"], reverse=True)
    return call.page(found, lambda one: run_shape(call.store, call.repository, one), "workflow_runs")


def _run(call: Call) -> Record:
    found: Record | None = call.repository["runs"].get(call.path["run_id"])
    if found is None:
        raise Refused(404, "Not Found")
    return found


@route("GET", f"{REPO}/actions/runs/{{run_id}}", "actions:read")
def run(call: Call) -> Answer:
    """One."""
    return Answer(200, run_shape(call.store, call.repository, _run(call)))


@route("GET", f"{REPO}/actions/runs/{{run_id}}/artifacts", "actions:read")
def artifacts(call: Call) -> Answer:
    """A run's."""
    number = _run(call)["id"]
    found = [
        one
        for one in call.repository["artifacts"].values()
        if one["run"] == number and call.query.get("name") in (None, one["name"])
    ]
    found.sort(key=lambda one: one["id"], reverse=True)
    return call.page(found, lambda one: _artifact_shape(call.store, call.repository, one), "artifacts")


def _artifact(call: Call) -> Record:
    found: Record | None = call.repository["artifacts"].get(call.path["artifact_id"])
    if found is None:
        raise Refused(404, "Not Found")
    return found


@route("GET", f"{REPO}/actions/artifacts/{{artifact_id}}", "actions:read")
def artifact(call: Call) -> Answer:
    """One."""
    return Answer(200, _artifact_shape(call.store, call.repository, _artifact(call)))


@route("GET", f"{REPO}/actions/artifacts/{{artifact_id}}/{{archive_format}}", "actions:read")
def download(call: Call) -> Answer:
    """Where its zip is: at another host, for a minute, for whoever has the address. Never for nobody."""
    if call.actor.kind == "anonymous":
        raise Refused(401, "Requires authentication")
    found = _artifact(call)
    if call.path["archive_format"] != "zip":
        raise Refused(404, "Not Found")
    if found["expired"]:
        raise Refused(410, "Artifact has expired")
    expires = str(int(time.time()) + SIGNED_FOR)
    signed = {"se": expires, "sig": signature(call.store, str(found["id"]), expires)}
    return Answer(302, None, {"location": f"{call.store.blobs}/artifacts/{found['id']}.zip?{urlencode(signed)}"})


@route("GET", f"{REPO}/commits/{{ref}}/check-runs", "checks:read")
def checks(call: Call) -> Answer:
    """Those of a commit; by default the newest of each name."""
    sha = call.bare.resolve(call.path["ref"])
    if sha is None:
        raise Refused(422, f"No commit found for SHA: {call.path['ref']}")
    query, found = call.query, {}
    for one in sorted(call.repository["checks"].values(), key=lambda check: int(check["id"])):
        wanted = query.get("check_name") in (None, one["name"]) and query.get("status") in (None, one["status"])
        app = query.get("app_id") in (None, str(one["app"]))
        if one["head_sha"] == sha and wanted and app:
            found[one["id"] if query.get("filter") == "all" else (one["app"], one["name"])] = one
    newest = sorted(found.values(), key=lambda check: int(check["id"]), reverse=True)
    return call.page(newest, lambda one: _check_shape(call.store, call.repository, one), "check_runs")


def _check_shape(store: Store, repository: Record, record: Record) -> Record:
    """`check-run`."""
    api, web = f"{store.api}/repos/{repository['full_name']}", f"{store.web}/{repository['full_name']}"
    url = f"{api}/check-runs/{record['id']}"
    apps = store.state["apps"]
    actions = {
        "id": ACTIONS_APP,
        "client_id": "Iv1.05c79e9ad1f6bdfa",
        "slug": "github-actions",
        "owner": "github",
        "created_at": repository["created_at"],
        "permissions": {"actions": "write", "checks": "write"},
    }
    return {
        "id": record["id"],
        "node_id": shapes.node("CheckRun", record["id"]),
        "head_sha": record["head_sha"],
        "external_id": "",
        "url": url,
        "html_url": f"{web}/runs/{record['id']}",
        "details_url": f"{web}/actions/runs/{record['run']}" if record["run"] else f"{web}/runs/{record['id']}",
        "status": record["status"],
        "conclusion": record["conclusion"],
        "started_at": record["started_at"],
        "completed_at": record["completed_at"],
        "output": {
            "title": record["title"],
            "summary": record["summary"],
            "text": None,
            "annotations_count": 0,
            "annotations_url": f"{url}/annotations",
        },
        "name": record["name"],
        "check_suite": {"id": record["suite"]},
        "app": shapes.app(store, apps.get(str(record["app"]), actions)),
        "pull_requests": _pulls_at(store, repository, record["head_sha"]),
    }


def _pulls_at(store: Store, repository: Record, sha: str) -> list[Record]:
    """Open pull requests of the repository's own branches with this head."""
    return [
        shapes_pulls.minimal_pull(store, repository, one)
        for one in repository["issues"].values()
        if one["pull"]
        and one["state"] == "open"
        and one["pull"]["head_sha"] == sha
        and one["pull"]["head_repository"] == repository["id"]
    ]


def _artifact_shape(store: Store, repository: Record, record: Record) -> Record:
    """`artifact`."""
    url = f"{store.api}/repos/{repository['full_name']}/actions/artifacts/{record['id']}"
    run = repository["runs"][str(record["run"])]
    return {
        "id": record["id"],
        "node_id": shapes.node("Artifact", record["id"]),
        "name": record["name"],
        "size_in_bytes": record["size"],
        "url": url,
        "archive_download_url": f"{url}/zip",
        "expired": record["expired"],
        "digest": record["digest"],
        "created_at": record["created_at"],
        "updated_at": record["created_at"],
        "expires_at": record["expires_at"],
        "workflow_run": {
            "id": run["id"],
            "repository_id": repository["id"],
            "head_repository_id": run["head_repository"],
            "head_branch": run["head_branch"],
            "head_sha": run["head_sha"],
        },
    }


def run_shape(store: Store, repository: Record, record: Record) -> Record:
    """`workflow-run`."""
    api, web = f"{store.api}/repos/{repository['full_name']}", f"{store.web}/{repository['full_name']}"
    url = f"{api}/actions/runs/{record['id']}"
    bare = store.bare(repository)
    source = store.repository_of(record["head_repository"]) or repository
    actor = shapes.user(store, store.account(record["actor"] or ACTIONS_BOT))
    head = bare.commit(record["head_sha"]) if bare.resolve(record["head_sha"]) else None
    return {
        "id": record["id"],
        "name": record["name"],
        "node_id": shapes.node("WorkflowRun", record["id"]),
        "check_suite_id": record["suite"],
        "check_suite_node_id": shapes.node("CheckSuite", record["suite"]),
        "head_branch": record["head_branch"],
        "head_sha": record["head_sha"],
        "path": record["path"],
        "run_number": record["run_number"],
        "run_attempt": record["run_attempt"],
        "referenced_workflows": [],
        "event": record["event"],
        "display_title": head.message.partition("\n")[0] if head else record["name"],
        "status": record["status"],
        "conclusion": record["conclusion"],
        "workflow_id": record["workflow_id"],
        "url": url,
        "html_url": f"{web}/actions/runs/{record['id']}",
        "pull_requests": _pulls_at(store, repository, record["head_sha"]),
        "created_at": record["created_at"],
        "updated_at": record["updated_at"],
        "run_started_at": record["created_at"],
        "actor": actor,
        "triggering_actor": actor,
        "jobs_url": f"{url}/jobs",
        "logs_url": f"{url}/logs",
        "check_suite_url": f"{api}/check-suites/{record['suite']}",
        "artifacts_url": f"{url}/artifacts",
        "cancel_url": f"{url}/cancel",
        "rerun_url": f"{url}/rerun",
        "previous_attempt_url": None,
        "workflow_url": f"{api}/actions/workflows/{record['workflow_id']}",
        "head_commit": head
        and {
            "id": head.sha,
            "tree_id": head.tree,
            "message": head.message,
            "timestamp": head.committed,
            "author": {"name": head.author.name, "email": head.author.email},
            "committer": {"name": head.committer.name, "email": head.committer.email},
        },
        "repository": shapes.minimal_repository(store, repository),
        "head_repository": shapes.minimal_repository(store, source),
        "head_repository_id": source["id"],
    }
