"""The artifact service, and run history's older face of it."""

from __future__ import annotations

from typing import Any

from azureml_emulator import artifacts, bodies, filters, runs
from azureml_emulator.emulator import Emulator
from azureml_emulator.errors import worded
from azureml_emulator.message import Answer, Refused, Request
from azureml_emulator.routes.runs import found_run, of_run
from azureml_emulator.routing import route

ARTIFACTS = "/artifact/v2.0{WS}/artifacts"
MAX_BATCH = 50


@route("POST", ARTIFACTS + "/batch/metadata/{origin}/{container}")
def declare(emulator: Emulator, request: Request, origin: str, container: str) -> Answer:
    """Records for files that are to be uploaded, and where to. Answers under the names as they were sent."""
    runs.allow_container(emulator, request, origin, container)
    wanted = [str(bodies.pick(one, "path") or "") for one in bodies.objects(bodies.given(request), "paths")]
    if len(wanted) > MAX_BATCH:
        raise Refused(400, "UserError", f"at most {MAX_BATCH} artifacts in one call")
    made: dict[str, Any] = {}
    where: dict[str, Any] = {}
    errors: dict[str, Any] = {}
    for path in wanted:
        try:
            made[path] = artifacts.declare(emulator, origin, container, path)
            where[path] = artifacts.content(emulator, request.host, made[path], "rc")
        except Refused as refused:
            errors[path] = worded("history", refused, request.id, emulator.time())
    return Answer(200, {"artifacts": made, "artifactContentInformation": where, "errors": errors})


@route("POST", ARTIFACTS + "/metadata")
def declare_one(emulator: Emulator, request: Request) -> Answer:
    """One record."""
    low = bodies.lowered(request)
    origin, container, path = (str(low.get(key) or "") for key in ("origin", "container", "path"))
    runs.allow_container(emulator, request, origin, container)
    return Answer(200, artifacts.declare(emulator, origin, container, path))


@route("GET", ARTIFACTS + "/metadata/{origin}/{container}/{path*}")
def get_metadata(emulator: Emulator, request: Request, origin: str, container: str, path: str) -> Answer:
    """One record."""
    return Answer(200, _found(emulator, origin, container, path))


@route("GET", ARTIFACTS + "/contentinfo/{origin}/{container}/{path*}")
def get_content_information(emulator: Emulator, request: Request, origin: str, container: str, path: str) -> Answer:
    """Where one file is read."""
    return Answer(200, artifacts.content(emulator, request.host, _found(emulator, origin, container, path)))


@route("GET", ARTIFACTS + "/prefix/contentinfo/{origin}/{container}/{path*}")
def list_content_information(
    emulator: Emulator, request: Request, origin: str, container: str, path: str
) -> Answer:
    """Where all files under a prefix are read."""
    return _where(emulator, request, artifacts.listed(emulator, origin, container, path))


@route("GET", ARTIFACTS + "/prefix/contentinfo/{origin}/{container}")
def list_all_content_information(emulator: Emulator, request: Request, origin: str, container: str) -> Answer:
    """Where all files of a container are read."""
    return _where(emulator, request, artifacts.listed(emulator, origin, container))


@route("GET", ARTIFACTS + "/write/{origin}/{container}/{path*}", writes=True)
def get_write_address(emulator: Emulator, request: Request, origin: str, container: str, path: str) -> Answer:
    """Where one file is written, by who keeps its log there while it grows."""
    runs.allow_container(emulator, request, origin, container)
    record = artifacts.find(emulator, origin, container, path)
    record = record or artifacts.declare(emulator, origin, container, path)
    return Answer(200, artifacts.content(emulator, request.host, record, "racw"))


@route("GET", ARTIFACTS + "/content/{origin}/{container}/{path*}")
def download(emulator: Emulator, request: Request, origin: str, container: str, path: str) -> Answer:
    """The bytes of one file."""
    record = _found(emulator, origin, container, path)
    return Answer(200, artifacts.part(emulator, record), {"Content-Type": "application/octet-stream"})


@route("POST", ARTIFACTS + "/content/{origin}/{container}/{path*}")
def upload(emulator: Emulator, request: Request, origin: str, container: str, path: str) -> Answer:
    """Write a small file, or with `append` add to one."""
    runs.allow_container(emulator, request, origin, container)
    low = {key.lower(): value for key, value in request.query.items()}
    put = artifacts.append if str(low.get("append") or "").lower() == "true" else artifacts.write
    return Answer(200, put(emulator, origin, container, path, request.body))


@route("GET", ARTIFACTS + "/{origin}/{container}")
def list_container(emulator: Emulator, request: Request, origin: str, container: str) -> Answer:
    """The records of a container."""
    return _page(request, artifacts.listed(emulator, origin, container))


@route("GET", ARTIFACTS + "/{origin}/{container}/{path*}")
def list_path(emulator: Emulator, request: Request, origin: str, container: str, path: str) -> Answer:
    """The records under a path."""
    return _page(request, artifacts.listed(emulator, origin, container, path))


@of_run("GET", "/artifacts")
def run_list(emulator: Emulator, request: Request, run_id: str, name: str = "", identity: str = "") -> Answer:
    """The records of a run."""
    run = found_run(emulator, name, identity, run_id)
    return _page(request, artifacts.listed(emulator, artifacts.RUN, run["dataContainerId"]))


@of_run("GET", "/artifacts/path/{path*}")
def run_list_path(
    emulator: Emulator, request: Request, run_id: str, path: str, name: str = "", identity: str = ""
) -> Answer:
    """The records of a run under a path."""
    run = found_run(emulator, name, identity, run_id)
    return _page(request, artifacts.listed(emulator, artifacts.RUN, run["dataContainerId"], path))


@of_run("GET", "/artifacts/contentinfo")
def run_content(emulator: Emulator, request: Request, run_id: str, name: str = "", identity: str = "") -> Answer:
    """Where a run's file is read; its path is a parameter."""
    run = found_run(emulator, name, identity, run_id)
    path = next((value for key, value in request.query.items() if key.lower() == "path"), "")
    record = _found(emulator, artifacts.RUN, run["dataContainerId"], path)
    return Answer(200, artifacts.content(emulator, request.host, record))


@of_run("GET", "/artifacts/contentinfo/{path*}")
def run_content_of(
    emulator: Emulator, request: Request, run_id: str, path: str, name: str = "", identity: str = ""
) -> Answer:
    """Where a run's file is read."""
    run = found_run(emulator, name, identity, run_id)
    record = _found(emulator, artifacts.RUN, run["dataContainerId"], path)
    return Answer(200, artifacts.content(emulator, request.host, record))


@of_run("GET", "/artifacts/artifacturi/{path*}")
def run_address(
    emulator: Emulator, request: Request, run_id: str, path: str, name: str = "", identity: str = ""
) -> Answer:
    """The bare address where a run's file is read."""
    run = found_run(emulator, name, identity, run_id)
    record = _found(emulator, artifacts.RUN, run["dataContainerId"], path)
    address = artifacts.content(emulator, request.host, record)["contentUri"]
    return Answer(200, f'"{address}"'.encode(), {"Content-Type": "application/json; charset=utf-8"})


@of_run("GET", "/artifacts/prefix/contentinfo/{path*}")
def run_prefix(
    emulator: Emulator, request: Request, run_id: str, path: str, name: str = "", identity: str = ""
) -> Answer:
    """Where all of a run's files under a prefix are read."""
    run = found_run(emulator, name, identity, run_id)
    return _where(emulator, request, artifacts.listed(emulator, artifacts.RUN, run["dataContainerId"], path))


def _found(emulator: Emulator, origin: str, container: str, path: str) -> dict[str, Any]:
    record = artifacts.find(emulator, origin, container, path)
    if record is None:
        raise Refused(404, "UserError", f"Artifact {origin}/{container}/{path[:400]} was not found")
    return record


def _page(request: Request, found: list[dict[str, Any]]) -> Answer:
    low = {key.lower().lstrip("$"): value for key, value in request.query.items()}
    shown, following = filters.page(found, low.get("top"), low.get("continuationtoken"), "path")
    return Answer(200, {"value": shown, "continuationToken": following, "nextLink": None})


def _where(emulator: Emulator, request: Request, found: list[dict[str, Any]]) -> Answer:
    low = {key.lower().lstrip("$"): value for key, value in request.query.items()}
    # Only what was written: an address of bytes that are not there makes the client try for minutes.
    there = [record for record in found if artifacts.written(emulator, record)]
    shown, following = filters.page(there, low.get("top"), low.get("continuationtoken"), "path")
    value = [artifacts.content(emulator, request.host, record) for record in shown]
    return Answer(200, {"value": value, "continuationToken": following, "nextLink": None})
