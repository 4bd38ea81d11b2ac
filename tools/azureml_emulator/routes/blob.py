"""The blob service, as far as the client and its vendored storage library use it: signed addresses only."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import quote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from azureml_emulator import blobs, filters, sas
from azureml_emulator.blobs import APPEND, BLOCK, Blob
from azureml_emulator.emulator import Emulator
from azureml_emulator.message import Answer, FilePart, Refused, Request
from azureml_emulator.routing import Handler, route

MAX_XML = 2**20
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_XML = '<?xml version="1.0" encoding="utf-8"?>'


def containers(path: str) -> Callable[[Handler], Handler]:
    """A route at each of our containers."""

    def put(handler: Handler) -> Handler:
        for name in ("azureml", "snapshots", "azureml-blobstore-{store}"):
            bound = _bound(handler, name)
            route("GET HEAD PUT DELETE", f"/{name}{path}", audience="sas", shape="blob", writes=False)(bound)
        return handler

    return put


def _bound(handler: Handler, name: str) -> Handler:
    @functools.wraps(handler)
    def serve(emulator: Emulator, request: Request, path: str = "", store: str = "") -> Answer:
        return handler(emulator, request, name.format(store=store), path)

    return serve


@containers("")
def container(emulator: Emulator, request: Request, container: str, path: str) -> Answer:
    """List Blobs, and the container's own properties."""
    if request.query.get("restype") != "container" or request.method not in {"GET", "HEAD"}:
        raise Refused(400, "UnsupportedOperation", "only a container's properties and list are served")
    sas.check(emulator, request, container, "", "l" if request.query.get("comp") == "list" else "rl")
    if request.query.get("comp") != "list":
        return Answer(200, None, {"x-ms-lease-state": "available", **_version()})
    return _listing(emulator, request, container)


@containers("/{path*}")
def blob(emulator: Emulator, request: Request, container: str, path: str) -> Answer:
    """Everything that is done with one blob."""
    if not path:
        raise Refused(400, "InvalidUri", "the address names no blob")
    if request.method == "PUT":
        return _written(emulator, request, container, path)
    if request.method == "DELETE":
        sas.check(emulator, request, container, path, "d")
        if not blobs.delete(emulator, container, path):
            raise _missing()
        return Answer(202, None, _version())
    sas.check(emulator, request, container, path, "r")
    if request.query.get("comp") == "blocklist":
        waiting = "".join(
            f"<Block><Name>{escape(name)}</Name><Size>{size}</Size></Block>"
            for name, size in blobs.staged(emulator, container, path)
        )
        body = f"{_XML}<BlockList><CommittedBlocks/><UncommittedBlocks>{waiting}</UncommittedBlocks></BlockList>"
        return Answer(200, body.encode(), {"Content-Type": "application/xml", **_version()})
    found = blobs.get(emulator, container, path)
    if found is None:
        raise _missing()
    return _read(request, found)


def _read(request: Request, found: Blob) -> Answer:
    headers = _described(found)
    if request.headers.get("if-none-match", "").strip('"') == found.etag:
        return Answer(304, None, headers)
    wanted = request.headers.get("if-match", "*").strip('"')
    if wanted not in {"*", found.etag}:
        raise Refused(412, "ConditionNotMet", "the blob was changed")
    if request.method == "HEAD":
        return Answer(200, None, {**headers, "Content-Length": str(found.size)})
    match = _RANGE.fullmatch(request.headers.get("x-ms-range") or request.headers.get("range") or "")
    if not match:
        return Answer(200, FilePart(found.file, 0, found.size), headers)
    start = int(match[1])
    end = min(int(match[2]) if match[2] else found.size - 1, found.size - 1)
    if start >= found.size or end < start:
        raise Refused(416, "InvalidRange", "the range is not inside", {"Content-Range": f"bytes */{found.size}"})
    if found.md5:
        # Of a part the service says the digest of the whole under its own name only.
        headers["x-ms-blob-content-md5"] = headers.pop("Content-MD5")
    headers["Content-Range"] = f"bytes {start}-{end}/{found.size}"
    return Answer(206, FilePart(found.file, start, end - start + 1), headers)


def _written(emulator: Emulator, request: Request, container: str, path: str) -> Answer:
    operation = request.query.get("comp", "")
    there = blobs.get(emulator, container, path)
    only_new = request.headers.get("if-none-match", "").strip() == "*"
    allowed = {"appendblock": "aw"}.get(operation, "cw" if there is None else "w")
    try:
        sas.check(emulator, request, container, path, allowed)
    except Refused:
        # Who may create, but not write over, is told that it is there.
        if there is None or not only_new:
            raise
        sas.check(emulator, request, container, path, "c")
    if operation in {"", "blocklist"} and only_new and there is not None:
        raise Refused(409, "BlobAlreadyExists", "The specified blob already exists.")
    md5 = request.headers.get("content-md5", "")
    content_type = request.headers.get("x-ms-blob-content-type") or request.headers.get("content-type", "")
    if operation == "block":
        _checked(request.body, md5)
        blobs.stage(emulator, container, path, request.query.get("blockid", ""), request.body)
        return Answer(201, None, _version())
    if operation == "blocklist":
        kind = request.headers.get("x-ms-blob-content-type", "")
        names = _block_names(request.body)
        made = blobs.commit(emulator, container, path, names, content_type=kind, only_new=only_new)
        return Answer(201, None, _done(made))
    if operation == "appendblock":
        if there is None:
            raise _missing()
        _checked(request.body, md5)
        position = request.headers.get("x-ms-blob-condition-appendpos")
        made = blobs.append(emulator, container, path, request.body, int(position) if position else None)
        return Answer(201, None, {**_done(made), "x-ms-blob-append-offset": str(made.size - len(request.body))})
    if operation:
        raise Refused(400, "UnsupportedOperation", f"comp={operation[:40]} is not served")
    kind = request.headers.get("x-ms-blob-type", "")
    if kind not in {BLOCK, APPEND}:
        raise Refused(400, "InvalidHeaderValue", "x-ms-blob-type is missing or not served")
    made = blobs.put(
        emulator, container, path, request.body, kind=kind, content_type=content_type, only_new=only_new, md5=md5
    )
    return Answer(201, None, _done(made) | ({"Content-MD5": made.md5} if made.md5 else {}))


def _checked(data: bytes, md5: str) -> None:
    if md5 and md5 != blobs.digest(data):
        raise Refused(400, "Md5Mismatch", "the content is not that of Content-MD5")


def _block_names(body: bytes) -> list[str]:
    if len(body) > MAX_XML or b"<!" in body:
        raise Refused(400, "InvalidXmlDocument", "the block list can't be read")
    try:
        # No declarations of entities: refused above.
        root = ElementTree.fromstring(body)  # noqa: S314
    except ElementTree.ParseError:
        raise Refused(400, "InvalidXmlDocument", "the block list can't be read") from None
    return [(node.text or "").strip() for node in root]


def _listing(emulator: Emulator, request: Request, container: str) -> Answer:
    query = request.query
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    entries: dict[str, Blob | None] = {}
    for found in blobs.listed(emulator, container, prefix):
        rest = found.path[len(prefix) :]
        if delimiter and delimiter in rest:
            entries[prefix + rest[: rest.index(delimiter) + len(delimiter)]] = None
        else:
            entries[found.path] = found
    rows = [{"name": name} for name in sorted(entries)]
    shown, marker = filters.page(rows, query.get("maxresults"), query.get("marker"), "name", 5000)
    lines = []
    for name in (row["name"] for row in shown):
        one = entries[name]
        if one is None:
            lines.append(f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>")
            continue
        md5 = f"<Content-MD5>{one.md5}</Content-MD5>" if one.md5 else "<Content-MD5/>"
        lines.append(
            f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{_stamp(one)}</Last-Modified>"
            f"<Etag>{one.etag}</Etag><Content-Length>{one.size}</Content-Length>"
            f"<Content-Type>{escape(one.content_type)}</Content-Type>{md5}<BlobType>{one.kind}</BlobType>"
            "<LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState></Properties></Blob>"
        )
    blob_url = emulator.urls_of(request).blob
    body = (
        f'{_XML}<EnumerationResults ServiceEndpoint="{escape(blob_url)}/" ContainerName="{quote(container)}">'
        f"<Prefix>{escape(prefix)}</Prefix><Delimiter>{escape(delimiter)}</Delimiter>"
        f"<Blobs>{''.join(lines)}</Blobs><NextMarker>{marker or ''}</NextMarker></EnumerationResults>"
    )
    return Answer(200, body.encode(), {"Content-Type": "application/xml", **_version()})


def _version() -> dict[str, str]:
    return {"x-ms-version": sas.VERSION}


def _done(found: Blob) -> dict[str, str]:
    return {"ETag": f'"{found.etag}"', "Last-Modified": _stamp(found), **_version()}


def _described(found: Blob) -> dict[str, str]:
    return {
        **_done(found),
        "Content-Type": found.content_type,
        "Accept-Ranges": "bytes",
        "x-ms-blob-type": found.kind,
        "x-ms-lease-state": "available",
        "x-ms-lease-status": "unlocked",
        **({"Content-MD5": found.md5} if found.md5 else {}),
    }


def _stamp(found: Blob) -> str:
    return format_datetime(datetime.fromtimestamp(found.modified, UTC), usegmt=True)


def _missing() -> Refused:
    return Refused(404, "BlobNotFound", "The specified blob does not exist.")
