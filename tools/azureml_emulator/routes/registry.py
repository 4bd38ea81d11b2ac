"""The registry's own API: sign-in for tokens, and the attributes of repositories, tags and manifests."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from azureml_emulator import manifests, registry_tokens, upstream
from azureml_emulator.message import Answer, Refused, Request
from azureml_emulator.routing import route

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

REPOSITORY = "/acr/v1/{name*}"


@route("POST", "/oauth2/exchange", audience="anyone", shape="registry", writes=False)
def exchange(emulator: Emulator, request: Request) -> Answer:
    """A refresh token for a token of the directory."""
    return Answer(200, {"refresh_token": registry_tokens.exchanged(emulator, request.host, request.form())})


@route("POST", "/oauth2/token", audience="anyone", shape="registry", writes=False)
def token(emulator: Emulator, request: Request) -> Answer:
    """An access token, for a refresh token or a password."""
    form = request.form()
    grant = form.get("grant_type", "")
    if grant == "refresh_token":
        refresh = form.get("refresh_token", "")
    elif grant == "password":
        refresh = registry_tokens.basic(emulator, request.host, form.get("username", ""), form.get("password", ""))
    else:
        raise Refused(400, "UNSUPPORTED", f"grant_type {grant[:50]!r} is not served")
    scopes = parse_qs(request.body.decode("utf-8", "replace")).get("scope", [])
    return _access(emulator, request, form.get("service", ""), refresh, scopes)


@route("GET", "/oauth2/token", audience="anyone", shape="registry", writes=False)
def token_for_password(emulator: Emulator, request: Request) -> Answer:
    """An access token for a user name and a password, as docker asks for it."""
    signed_in = registry_tokens.basic_header(request.headers.get("authorization", ""))
    if signed_in is None:
        raise Refused(401, "UNAUTHORIZED", "authentication required")
    refresh = registry_tokens.basic(emulator, request.host, *signed_in)
    scopes = parse_qs(request.query_string).get("scope", [])
    return _access(emulator, request, request.query.get("service", ""), refresh, scopes)


def _access(emulator: Emulator, request: Request, service: str, refresh: str, scopes: list[str]) -> Answer:
    made = registry_tokens.access_token(emulator, request.host, service, refresh, scopes)
    return Answer(200, {"access_token": made})


def _may(emulator: Emulator, request: Request, name: str) -> None:
    if not re.fullmatch(upstream.NAME, name):
        raise Refused(404, "NAME_INVALID", "that is not the name of a repository")
    registry_tokens.allow(
        emulator,
        request.host,
        request.headers.get("authorization", ""),
        ("repository", name, ("metadata_read", "pull")),
    )


def _shown(emulator: Emulator, request: Request, name: str) -> dict[str, Any]:
    return {"registry": registry_tokens.service(emulator, request.host), "imageName": name}


def _page(
    request: Request, found: list[dict[str, Any]], key: Callable[[dict[str, Any]], str]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """One page after `last`, ordered as asked, and the header that leads to the next."""
    order = request.query.get("orderby", "").lower()
    if order in ("timeasc", "timedesc"):
        found = sorted(found, key=lambda item: str(item["lastUpdateTime"]), reverse=order == "timedesc")
    last = request.query.get("last")
    if last:
        names = [key(item) for item in found]
        found = found[names.index(last) + 1 :] if last in names else [item for item in found if key(item) > last]
    text = request.query.get("n") or str(manifests.PAGE)
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:6]) <= 10000:
        raise Refused(400, "PAGINATION_NUMBER_INVALID", "n is not a number of 1 or more")
    shown = found[: int(text[:6])]
    if len(found) == len(shown):
        return shown, {}
    more = f"&orderby={order}" if order in ("timeasc", "timedesc") else ""
    return shown, {"Link": f'<{request.path}?last={key(shown[-1])}&n={text}{more}>; rel="next"'}


@route("GET", "/acr/v1/_catalog", audience="anyone", shape="registry")
def catalog(emulator: Emulator, request: Request) -> Answer:
    """The repositories, by name."""
    header = request.headers.get("authorization", "")
    registry_tokens.allow(emulator, request.host, header, ("registry", "catalog", ("*",)))
    found = [{"name": name} for name in manifests.repositories(emulator)]
    shown, headers = _page(request, found, lambda item: str(item["name"]))
    return Answer(200, {"repositories": [item["name"] for item in shown]}, headers)


@route("GET", REPOSITORY + "/_tags/{tag}", audience="anyone", shape="registry")
def tag(emulator: Emulator, request: Request, name: str, tag: str) -> Answer:
    """The attributes of a tag."""
    _may(emulator, request, name)
    if not re.fullmatch(upstream.REFERENCE, tag):
        raise Refused(404, "TAG_UNKNOWN", "the specified tag does not exist")
    return Answer(200, {**_shown(emulator, request, name), "tag": manifests.tag(emulator, name, tag)})


@route("GET", REPOSITORY + "/_tags", audience="anyone", shape="registry")
def tags(emulator: Emulator, request: Request, name: str) -> Answer:
    """The tags of a repository."""
    _may(emulator, request, name)
    found = manifests.tags(emulator, name)
    digest = request.query.get("digest")
    shown, headers = _page(
        request,
        [item for item in found if not digest or item["digest"] == digest],
        lambda item: str(item["name"]),
    )
    return Answer(200, {**_shown(emulator, request, name), "tags": shown}, headers)


@route("GET", REPOSITORY + "/_manifests/{digest}", audience="anyone", shape="registry")
def manifest(emulator: Emulator, request: Request, name: str, digest: str) -> Answer:
    """The attributes of a manifest."""
    _may(emulator, request, name)
    if not re.fullmatch(upstream.REFERENCE, digest):
        raise Refused(404, "MANIFEST_UNKNOWN", "the specified manifest does not exist")
    found = manifests.manifest(emulator, name, digest, manifests.tags(emulator, name))
    return Answer(200, {**_shown(emulator, request, name), "manifest": found})


@route("GET", REPOSITORY + "/_manifests", audience="anyone", shape="registry")
def list_manifests(emulator: Emulator, request: Request, name: str) -> Answer:
    """The manifests of a repository."""
    _may(emulator, request, name)
    of_tags = manifests.tags(emulator, name)
    found = [
        manifests.manifest(emulator, name, digest, of_tags) for digest in manifests.digests(emulator, name, of_tags)
    ]
    shown, headers = _page(request, found, lambda item: str(item["digest"]))
    return Answer(200, {**_shown(emulator, request, name), "manifests": shown}, headers)


@route("GET", REPOSITORY, audience="anyone", shape="registry")
def repository(emulator: Emulator, request: Request, name: str) -> Answer:
    """The attributes of a repository."""
    _may(emulator, request, name)
    return Answer(200, {**_shown(emulator, request, name), **manifests.repository(emulator, name)})
