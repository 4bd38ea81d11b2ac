"""Sends a blob: not if it is there, not if it can be mounted, whole if it is small, else in chunks.

A chunk that breaks off is taken up where the registry says that it stands (distribution specification 1.1,
"Pushing a blob in chunks"). A registry that has lost its place, as Docker distribution does when a connection
breaks in the middle of a chunk, gets the blob from its start.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import quote, urlencode

from edgetrain.core.errors import Denied, NotFound, ProviderError, Rejected, Transient
from edgetrain.providers.durable import disk
from edgetrain.providers.image_spec import Descriptor
from edgetrain.providers.oci import auth
from edgetrain.providers.oci.client import Client, RemoteBlob
from edgetrain.providers.oci.transport import ATTEMPTS, BLOCK, Answer, discard, refusal

# Registries write each chunk to their disk before they answer: small ones cost time, large ones more to send again.
CHUNK = 128 * 2**20
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")


class Abandoned(Exception):
    """Another blob of the same push failed."""


def ensure_blob(
    client: Client,
    repository: str,
    blob: Descriptor,
    opener: Callable[[], BinaryIO],
    stop: threading.Event,
    chunk: int = CHUNK,
) -> None:
    """Ensure that the blob is in the repository. `stop` ends it with Abandoned; `chunk` is in bytes.

    Raises Rejected if the bytes given are not those of the digest, else the ProviderError of what failed.
    """
    if client.blob_size(repository, blob.digest) is not None:
        return
    if isinstance(opener, RemoteBlob) and _mounted(client, repository, blob, opener):
        return
    with _Source(blob, opener, stop) as source:
        upload = _Upload(client, repository, blob, source)
        if blob.size <= chunk:
            client.retrying()(upload.whole)
            return
        while source.sent < blob.size:
            # Patience is for one chunk: each that arrives begins it anew.
            client.retrying()(upload.chunk, chunk)


def _mounted(client: Client, repository: str, blob: Descriptor, origin: RemoteBlob) -> bool:
    """Whether the registry linked the blob from another of its repositories."""
    if origin.client.host != client.host:
        return False
    query = urlencode({"mount": blob.digest, "from": origin.repository})
    url = f"/v2/{repository}/blobs/uploads/?{query}"
    scopes = frozenset({auth.push(repository), auth.pull(origin.repository)})
    try:
        answer = client.ask(f"mount a blob into {repository}", "POST", url, scopes, {201, 202})
    except (Denied, NotFound, Rejected):
        return False  # Then the layer is copied; what really stands in the way is found there.
    discard(answer)
    if answer.status == 202 and "location" in answer.headers:
        cancel(client, repository, answer.headers["location"])
    return answer.status == 201


def begin(client: Client, repository: str) -> str:
    """Start an upload; its place. One attempt."""
    scopes = frozenset({auth.push(repository)})
    answer = client.once("POST", f"/v2/{repository}/blobs/uploads/", scopes, headers={"Content-Length": "0"})
    if answer.status != 202:
        raise refusal(answer, client.host, f"take a blob into {repository}")
    return place(client, answer)


def cancel(client: Client, repository: str, location: str) -> bool:
    """Give up an upload; False if the registry can't. One attempt: registries tidy up by themselves too."""
    answer = client.once("DELETE", location, frozenset({auth.push(repository)}))
    discard(answer)
    return answer.status in {200, 202, 204, 404}


def place(client: Client, answer: Answer) -> str:
    """Where the upload goes on. Raises Rejected if the answer does not say."""
    discard(answer)
    location = answer.headers.get("location", "")
    if not location:
        raise Rejected(
            f"{client.host} does not say where to upload to",
            reason="NotARegistry",
            fix="check the registry's host in edgetrain.yaml, and what stands before it",
        )
    return client.transport.absolute(location, client.transport.url)


class _Source:
    """A blob's bytes from any place on; goes back by opening them anew."""

    def __init__(self, blob: Descriptor, opener: Callable[[], BinaryIO], stop: threading.Event) -> None:
        self._blob, self._opener, self._stop = blob, opener, stop
        self._stream: BinaryIO | None = None
        self._position = 0
        self.sent = 0  # what the registry has

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def part(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to before `end`, block by block. Raises Rejected if they are not there."""
        if self._position > start:
            self._close()
        while self._position < start:
            self._read(min(BLOCK, start - self._position))
        while self._position < end:
            yield self._read(min(BLOCK, end - self._position))
        if end == self._blob.size:
            with disk("reading a layer"):
                if self._stream is not None and self._stream.read(1):
                    raise self._other()

    def _read(self, size: int) -> bytes:
        if self._stop.is_set():
            raise Abandoned
        with disk("reading a layer"):
            if self._stream is None:
                self._stream = self._opener()
            # One read of what is below, without copying several together.
            data = getattr(self._stream, "read1", self._stream.read)(size)
        if not data:
            raise self._other()
        self._position += len(data)
        return data

    def _other(self) -> Rejected:
        return Rejected(
            f"the bytes given for {self._blob.digest} are not its own",
            reason="DigestMismatch",
            fix="check the artifact store's disk, then apply again",
        )

    def _close(self) -> None:
        self._position = 0
        if self._stream is not None:
            with disk("reading a layer"):
                self._stream.close()
            self._stream = None


class _Upload:
    """One blob on its way; each method is an attempt that first finds out where the registry stands."""

    def __init__(self, client: Client, repository: str, blob: Descriptor, source: _Source) -> None:
        self._client, self._repository, self._blob, self._source = client, repository, blob, source
        self._scopes = frozenset({auth.push(repository)})
        self._location = ""
        self._begun = 0
        self._sure = True

    def whole(self) -> None:
        """The blob in one request."""
        if not self._sure and self._there():
            return
        self._sure = False
        self._begin()
        self._end()

    def chunk(self, size: int) -> None:
        """The next chunk; the last one ends the upload."""
        if not self._sure and self._there():
            return
        if not self._location or (not self._sure and not self._found()):
            self._begin()
        self._sure = False
        start, end = self._source.sent, self._source.sent + size
        if end >= self._blob.size:
            self._end()
        else:
            answer = self._send("PATCH", self._location, start, end)
            if answer.status != 202:
                raise self._refused(answer)
            self._location = place(self._client, answer)
            self._source.sent = min(_stands(answer, end), end)
        self._sure = True

    def _begin(self) -> None:
        self._begun += 1
        if self._begun > ATTEMPTS:
            raise Transient(
                f"{self._client.host} lost the same blob {ATTEMPTS} times over",
                reason="ConnectionUnsteady",
                fix="look at the network between here and the registry",
            )
        self._source.sent, self._location = 0, begin(self._client, self._repository)

    def _end(self) -> None:
        """What is left, and the digest, which the registry compares."""
        url = (
            self._location + ("&" if "?" in self._location else "?") + "digest=" + quote(self._blob.digest, safe="")
        )
        answer = self._send("PUT", url, self._source.sent, self._blob.size)
        if answer.status != 201:
            raise self._refused(answer)
        discard(answer)
        self._client.check(answer, self._blob.digest)
        self._source.sent = self._blob.size

    def _send(self, method: str, url: str, start: int, end: int) -> Answer:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(end - start)}
        if (start, end) != (0, self._blob.size) and end > start:
            headers["Content-Range"] = f"{start}-{end - 1}"
        return self._client.once(
            method, url, self._scopes, headers=headers, body=lambda: self._source.part(start, end)
        )

    def _refused(self, answer: Answer) -> ProviderError:
        failure = refusal(answer, self._client.host, f"take a blob into {self._repository}")
        if answer.status == 416 or "BLOB_UPLOAD_" in failure.message:
            return Transient(failure.message, reason="UploadLost", fix="apply again")
        return failure

    def _there(self) -> bool:
        """Whether the last attempt did its work, and only its answer was lost."""
        if self._client.blob_size(self._repository, self._blob.digest) is None:
            return False
        self._source.sent = self._blob.size
        return True

    def _found(self) -> bool:
        """Whether the registry knows where the upload stands."""
        answer = self._client.once("GET", self._location, self._scopes)
        if answer.status in {400, 404, 405, 410, 416}:
            discard(answer)
            return False
        if answer.status not in {200, 204}:
            raise refusal(answer, self._client.host, f"tell where an upload into {self._repository} stands")
        self._source.sent = min(_stands(answer, 0), self._blob.size)
        if "location" in answer.headers:
            self._location = place(self._client, answer)
        else:
            discard(answer)
        return True


def _stands(answer: Answer, unsaid: int) -> int:
    """How many bytes the registry has. `0-0` is none: Docker distribution says so of an upload just begun."""
    found = _RANGE.fullmatch(answer.headers.get("range", ""))
    if not found:
        return unsaid
    last = int(found[1])
    return last + 1 if last else 0
