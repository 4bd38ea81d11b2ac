"""The real registry behind the token exchange, asked by the emulator itself."""

from __future__ import annotations

import http.client
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from azureml_emulator.message import Refused

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
REFERENCE = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|[A-Za-z0-9+._-]+:[0-9a-fA-F]{32,}"
MAX_ANSWER = 32 * 2**20
_WAIT = 30.0


def base(emulator: Emulator) -> tuple[str, int]:
    """Host and port. Raises Refused (503) if there is no registry."""
    found = urlsplit(emulator.options.registry)
    if found.scheme != "http" or not found.hostname:
        raise Refused(503, "UNAVAILABLE", "no registry is behind this one: give the address of a plain http one")
    return found.hostname, found.port or 80


def ask(emulator: Emulator, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower case) and body of a request for a manifest, a list or a small blob. Raises Refused."""
    host, port = base(emulator)
    connection = http.client.HTTPConnection(host, port, timeout=_WAIT)
    try:
        connection.request(method, quote(path, safe="/:?=&%+"), headers={"Accept": ", ".join(MANIFESTS)})
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException):
        raise Refused(503, "UNAVAILABLE", "the registry behind this one does not answer") from None
    finally:
        connection.close()


def asked(emulator: Emulator, path: str) -> Any | None:
    """The JSON at this path, None if there is none. Raises Refused."""
    status, _, body = ask(emulator, "GET", path)
    if status == 404:
        return None
    if status != 200:
        raise Refused(502, "UNKNOWN", f"the registry behind this one answers {status}")
    return json.loads(body)


def has(emulator: Emulator, image: str) -> bool:
    """Whether an image is there, by `name`, `name:tag` or `name@digest`. False without a registry."""
    match = re.fullmatch(f"({NAME})(?:[:@]({REFERENCE}))?", image)
    if match is None or not emulator.options.registry:
        return False
    return ask(emulator, "HEAD", f"/v2/{match[1]}/manifests/{match[2] or 'latest'}")[0] == 200
