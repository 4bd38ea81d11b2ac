"""The OCI distribution API (specification 1.1) of one registry: manifests, blobs and tags of its repositories.

Every answer is checked against the digest that was asked for. Names are full paths at the registry.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from tenacity import Retrying
from urllib3 import exceptions as broken_link

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import Rejected, Transient
from edgetrain.core.problem import shown
from edgetrain.providers.image_spec import (
    DOCKER_INDEX_TYPE,
    DOCKER_MANIFEST_TYPE,
    INDEX_TYPE,
    JSON_SIZE,
    MANIFEST_TYPE,
    CheckedStream,
    Descriptor,
    broken,
    check_tag,
    missing,
)
from edgetrain.providers.oci import auth
from edgetrain.providers.oci.transport import (
    BLOCK,
    Answer,
    Body,
    Transport,
    discard,
    fault,
    patient,
    read,
    read_json,
    refusal,
)

ACCEPT = ", ".join((MANIFEST_TYPE, INDEX_TYPE, DOCKER_MANIFEST_TYPE, DOCKER_INDEX_TYPE))
PAGES, PAGE = 1000, 1000
_NEXT = re.compile(r"\s*<([^>]{1,4096})>\s*;\s*rel=\"?next\"?")


class Client:
    """Requests with sign-in, patience and checks. `sleep` waits between attempts, seconds."""

    def __init__(
        self,
        transport: Transport,
        credential: auth.Credential | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.transport = transport
        self.host = transport.host
        self._auth = auth.Authenticator(transport, credential, now)
        self._sleep = sleep

    def retrying(self) -> Retrying:
        """Patience for one step."""
        return patient(self._sleep)

    def once(
        self,
        method: str,
        url: str,
        scopes: auth.Scopes,
        *,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Body] | None = None,
        follow: bool = False,
    ) -> Answer:
        """One attempt, and one more for each sign-in that is asked for. `body` gives the bytes from their start.

        Credentials go along only if the URL is the registry's own.
        """
        url = self.transport.absolute(url, self.transport.url)
        own = self.transport.own(url)
        for left in (2, 1, 0):
            sent = self._auth.header(scopes) if own else None
            signed = {**(headers or {}), **({"Authorization": sent.reveal()} if sent else {})}
            answer = self.transport.send(method, url, headers=signed, body=body() if body else None, follow=follow)
            if answer.status != 401 or not own or not left or not self._auth.challenged(answer, sent, scopes):
                break
            discard(answer)
        return answer

    def ask(
        self,
        what: str,
        method: str,
        path: str,
        scopes: auth.Scopes,
        expected: set[int],
        *,
        headers: Mapping[str, str] | None = None,
        follow: bool = False,
    ) -> Answer:
        """A bodiless request that may be sent again, until it is answered with one of the `expected` statuses.

        Raises the ProviderError of any other answer; `what` completes "refused to ...".
        """

        def attempt() -> Answer:
            answer = self.once(method, path, scopes, headers=headers, follow=follow)
            if answer.status not in expected:
                raise refusal(answer, self.host, what)
            return answer

        return self.retrying()(attempt)

    # Manifests

    def manifest(self, repository: str, reference: str) -> tuple[bytes, str]:
        """Bytes and media type of a manifest by digest or tag. Raises NotFound; Rejected if not of its digest."""
        path, scopes = f"/v2/{repository}/manifests/{reference}", frozenset({auth.pull(repository)})

        def attempt() -> tuple[bytes, str]:
            answer = self.once("GET", path, scopes, headers={"Accept": ACCEPT}, follow=True)
            if answer.status == 404:
                discard(answer)
                raise missing(f"{self.host}/{repository}", shown(reference))
            if answer.status != 200:
                raise refusal(answer, self.host, f"show {repository}")
            return read(answer, JSON_SIZE), answer.headers.get("content-type", "").partition(";")[0].strip()

        data, media_type = self.retrying()(attempt)
        if ":" in reference and digest_bytes(data) != reference:
            raise broken(f"the bytes of {reference} are not its own")
        return data, media_type

    def digest(self, repository: str, tag: str) -> str | None:
        """The digest that a tag points to (or a digest itself, if it is there); None if it is not there."""
        path, scopes = f"/v2/{repository}/manifests/{tag}", frozenset({auth.pull(repository)})
        what = f"show {repository}"
        answer = self.ask(what, "HEAD", path, scopes, {200, 404}, headers={"Accept": ACCEPT}, follow=True)
        discard(answer)
        if answer.status == 404:
            return None
        said = answer.headers.get("docker-content-digest", "")
        if ":" in tag and said not in ("", tag):
            raise self._wrong_digest()
        return (
            said if re.fullmatch(r"sha256:[0-9a-f]{64}", said) else digest_bytes(self.manifest(repository, tag)[0])
        )

    def put_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> Mapping[str, str]:
        """Put exact bytes under a digest or a tag; the answer's headers."""
        path, scopes = f"/v2/{repository}/manifests/{reference}", frozenset({auth.push(repository)})

        def attempt() -> Answer:
            answer = self.once("PUT", path, scopes, headers={"Content-Type": media_type}, body=lambda: data)
            if answer.status != 201:
                # Our reference is of these very bytes. Docker's registry also says DIGEST_INVALID of a blob of the
                # manifest while another writer is just linking the same blob: it has read that link half written.
                raise refusal(answer, self.host, f"take a manifest into {repository}", passing={"DIGEST_INVALID"})
            return answer

        answer = self.retrying()(attempt)
        discard(answer)
        self.check(answer, digest_bytes(data))
        return answer.headers

    def delete_manifest(self, repository: str, reference: str) -> bool:
        """Delete by digest or tag; False if the registry can't, or lets us not."""
        scopes = frozenset({auth.delete(repository)})
        answer = self.ask(
            f"delete in {repository}",
            "DELETE",
            f"/v2/{repository}/manifests/{reference}",
            scopes,
            {200, 202, 204, 400, 401, 403, 404, 405, 501},
        )
        discard(answer)
        return answer.status < 300

    def tags(self, repository: str) -> Iterator[str]:
        """All tags, page by page; none for an absent repository. What is no tag's name is left out."""
        url, scopes = f"/v2/{repository}/tags/list?n={PAGE}", frozenset({auth.pull(repository)})
        for _ in range(PAGES):
            answer = self.ask(f"list the tags of {repository}", "GET", url, scopes, {200, 404}, follow=True)
            if answer.status == 404:
                discard(answer)
                return
            here = answer.headers.get("link", "")
            found = read_json(answer, JSON_SIZE).get("tags")
            for tag in found if isinstance(found, list) else []:
                try:
                    yield check_tag(tag if isinstance(tag, str) else "")
                except Rejected:
                    continue
            if not (more := _NEXT.match(here)):
                return
            # Resolved against the registry: a page elsewhere would be asked for without our credential.
            url = self.transport.absolute(more[1], self.transport.url + urlsplit(url).path)
        raise Rejected(
            f"{self.host} lists tags of {repository} without end", reason="TooMany", fix="remove old tags there"
        )

    # Blobs

    def blob_size(self, repository: str, digest: str) -> int | None:
        """The blob's size in bytes, or None if it is absent."""
        path, scopes = f"/v2/{repository}/blobs/{digest}", frozenset({auth.pull(repository)})
        answer = self.ask(f"show a blob of {repository}", "HEAD", path, scopes, {200, 404}, follow=True)
        discard(answer)
        if answer.status == 404:
            return None
        self.check(answer, digest)
        length = answer.headers.get("content-length", "")
        return int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None

    def blob(self, repository: str, blob: Descriptor) -> BinaryIO:
        """The blob's bytes, streamed; taken up again where the connection broke.

        The last read raises Rejected if the bytes are not those of the digest. Raises NotFound.
        """
        stream = _BlobStream(self, repository, blob)
        return io.BufferedReader(CheckedStream(cast(BinaryIO, stream), blob), BLOCK)

    def open_blob(self, repository: str, blob: Descriptor, start: int) -> Answer:
        """An answer with the blob's bytes from `start` on: one attempt."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        scopes = frozenset({auth.pull(repository)})
        path = f"/v2/{repository}/blobs/{blob.digest}"
        answer = self.once("GET", path, scopes, headers=headers, follow=True)
        if answer.status == 404:
            discard(answer)
            raise missing(f"{self.host}/{repository}", blob.digest)
        if answer.status == 206 and answer.headers.get("content-range", "").startswith(f"bytes {start}-"):
            return answer
        if answer.status != 200:
            raise refusal(answer, self.host, f"give a blob of {repository}")
        length = answer.headers.get("content-length", "")
        if length.isdecimal() and int(length) != blob.size:
            discard(answer)
            raise self._wrong_size(blob, int(length))
        left = start  # The range was passed over: so are the bytes.
        while left and (skipped := answer.read(min(left, BLOCK))):
            left -= len(skipped)
        return answer

    def check(self, answer: Answer, digest: str) -> None:
        """Raises Rejected if the answer names another digest."""
        if answer.headers.get("docker-content-digest", digest) != digest:
            raise self._wrong_digest()

    def _wrong_size(self, blob: Descriptor, size: int) -> Rejected:
        return Rejected(
            f"{self.host} has {size} bytes as {blob.digest}, and its manifest says {blob.size}",
            reason="DigestMismatch",
            fix="copy the image there again, with skopeo for example",
        )

    def _wrong_digest(self) -> Rejected:
        return Rejected(
            f"{self.host} answers with another digest than was asked for",
            reason="DigestMismatch",
            fix="see what stands between here and the registry: a cache, or a mirror",
        )


class RemoteBlob:
    """Opens a blob where it lies; tells a push to the same registry where it may be mounted from."""

    def __init__(self, client: Client, repository: str, blob: Descriptor) -> None:
        self.client = client
        self.repository = repository
        self._blob = blob

    def __call__(self) -> BinaryIO:
        """The blob's bytes, checked as they are read."""
        return self.client.blob(self.repository, self._blob)


class _BlobStream(io.RawIOBase):
    """A blob's bytes over as many connections as it takes."""

    def __init__(self, client: Client, repository: str, blob: Descriptor) -> None:
        self._client, self._repository, self._blob = client, repository, blob
        self._answer: Answer | None = None
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; none at the end. Raises Transient when patience is over."""
        return self._client.retrying()(self._attempt, size)

    def _attempt(self, size: int) -> bytes:
        try:
            if self._answer is None:
                self._answer = self._client.open_blob(self._repository, self._blob, self._position)
            data = self._answer.read(size)
        except (broken_link.HTTPError, OSError) as error:
            self._drop()
            raise fault(error, self._client.host) from None
        if not data and self._position < self._blob.size:
            self._drop()
            raise Transient(f"{self._client.host}: a blob ended early", reason="ConnectionBroke", fix="apply again")
        self._position += len(data)
        return data

    def _drop(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def close(self) -> None:
        """Close the connection if bytes are left on it."""
        if not self.closed:
            self._drop()
        super().close()
