"""Reading a container of the blob store: List Blobs and Get Blob, with a SAS, in the version that the site pins.

Source: the Blob service REST API. Blob names and the SAS are in no message. Redirects are never followed.
"""

from __future__ import annotations

import calendar
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TypeVar

from .entry import Entry
from .errors import Failure, Passing, Stopped, bad_request, changed
from .wire import Address, Answer, Wire

PAUSES = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
LONGEST_PAUSE = 30.0
CHUNK = 2**18
SAID = 2**14
SAS = re.compile(r"[A-Za-z0-9%&=+/:._~,-]{0,8192}")
VERSION = re.compile(r"\d{4}-\d{2}-\d{2}")
DENIED = "AuthenticationFailed"
T = TypeVar("T")


class Container:
    """A container's URL and the right to read it; one for all threads."""

    def __init__(self, location: str, access: Mapping[str, str]) -> None:
        self.address = Address(location, access.get("caBundle", ""), access.get("proxy", ""))
        self.sas = access.get("sas", "").lstrip("?")
        self.version = access.get("apiVersion", "2019-07-07")
        if not SAS.fullmatch(self.sas) or not VERSION.fullmatch(self.version):
            raise bad_request("the access to the blob store is not of the expected form")
        self.stop = threading.Event()
        self.answered = False
        self.sessions: list[Session] = []

    def session(self) -> Session:
        """A connection for one thread."""
        session = Session(self)
        self.sessions.append(session)
        return session

    def abort(self) -> None:
        """End what all threads wait for."""
        self.stop.set()
        for session in self.sessions:
            session.wire.abort()


class Session:
    """One keep-alive connection to the container."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.wire = Wire(container.address)
        self.buffer = memoryview(bytearray(CHUNK))

    def page(self, prefix: str, marker: str, count: int) -> Answer:
        """One try for one page of names, in XML. Raises Passing, Failure."""
        query = {"restype": "container", "comp": "list", "prefix": prefix, "maxresults": str(count)}
        query["include"] = "metadata"  # it tells which empty blobs stand for folders
        if marker:
            query["marker"] = marker
        answer = self._get("?" + urllib.parse.urlencode(query, quote_via=urllib.parse.quote), {})
        if answer.status != 200:
            raise self._refused(answer, listing=True)
        self.container.answered = True
        return answer

    def read(self, entry: Entry, start: int, stop: int, sink: Callable[[memoryview], object]) -> None:
        """Give the bytes from `start` to before `stop` to `sink`, in order, each once, however often it takes.

        Raises Failure: DataChanged if the blob is not the one with this ETag and size any more."""
        position, failed = start, 0
        while position < stop:
            began = position
            try:
                answer = self._ask(entry, position, stop)
                while position < stop:
                    count = answer.readinto(self.buffer)
                    if not count:
                        raise Passing("the answer was short")
                    if self.container.stop.is_set():
                        raise Stopped
                    sink(self.buffer[:count])
                    position += count
            except Passing as error:
                failed = 1 if position > began else failed + 1
                wait(failed, error, self.container.stop)

    def close(self) -> None:
        """Drop the connection."""
        self.wire.close()

    def _ask(self, entry: Entry, start: int, stop: int) -> Answer:
        headers = {"If-Match": f'"{entry.tag}"'}
        whole = start == 0 and stop == entry.size
        if not whole:
            headers["Range"] = f"bytes={start}-{stop - 1}"
        answer = self._get("/" + urllib.parse.quote(entry.name, safe="/~"), headers)
        if answer.status != (200 if whole else 206):
            raise self._refused(answer, listing=False)
        if answer.headers.get("etag", "").strip('"') != entry.tag:
            raise changed("changed while it was read")
        if answer.length not in (stop - start, None):
            raise changed("has another size than its listing says")
        if not whole and answer.headers.get("content-range") != f"bytes {start}-{stop - 1}/{entry.size}":
            raise Passing("the server answered another range")
        self.container.answered = True
        return answer

    def _get(self, path: str, headers: Mapping[str, str]) -> Answer:
        container = self.container
        if container.stop.is_set():
            raise Stopped
        if container.sas:
            path += ("&" if "?" in path else "?") + container.sas
        every = {"x-ms-version": container.version, "User-Agent": "edgetrain", "Accept-Encoding": "identity"}
        answer = self.wire.get(path, {**every, **headers})
        if answer.status in (408, 429, 500, 502, 503, 504):
            pause = answer.headers.get("retry-after", "")
            self.wire.close()
            raise Passing(f"the blob store answers {answer.status}", float(pause) if pause.isdigit() else 0.0)
        return answer

    def _refused(self, answer: Answer, listing: bool) -> Exception:
        """The failure behind an answer."""
        code = re.sub(r"[^A-Za-z0-9]", "", answer.headers.get("x-ms-error-code", ""))[:60]
        if answer.status in (404, 412, 416) and not listing:
            return changed("changed or lost a blob while it was read")
        if answer.status == 404:
            fix = "check the datastore's container in edgetrain.yaml and the input's path"
            return Failure("NotFound", "NotFound", "the blob store has no such container", fix)
        if answer.status in (401, 403):
            return self._denied(answer, code)
        if answer.status == 409 and code == "BlobArchived":
            fix = "bring it back to an online tier in the blob store"
            return Failure("Rejected", "BlobArchived", "a blob is in the archive tier", fix)
        fix = "check the datastore's endpoint, container and apiVersion in edgetrain.yaml"
        said = f"{answer.status} {code}".strip()
        return Failure("Rejected", "BlobStoreRefused", f"the blob store answers {said}", fix)

    def _denied(self, answer: Answer, code: str) -> Failure:
        said = answer.read(SAID)
        late = expired(self.container.sas, server_time(answer.headers.get("date", "")))
        if late or b"time frame" in said or (self.container.answered and code in ("", DENIED)):
            fix = "apply again: a fresh SAS is made, and what was fetched stays"
            return Failure("Transient", "SasExpired", "the SAS has expired", fix)
        fix = "check the account key of the datastore, and the clocks of runner and blob store"
        return Failure("Denied", "Denied", f"the blob store denies the SAS ({code or answer.status})", fix)


def server_time(date: str) -> float:
    """Seconds since 1970 of an HTTP date; this host's time if there is none."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return time.time()


def expired(sas: str, now: float) -> bool:
    """Whether the SAS says that it ended before `now`."""
    end = urllib.parse.parse_qs(sas).get("se", [""])[0]
    for form in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d"):
        try:
            then = time.strptime(end, form)
        except ValueError:
            continue
        return calendar.timegm(then) <= now
    return False


def wait(failed: int, error: Passing, stop: threading.Event) -> None:
    """Wait after the `failed`th failure in a row; raise Unreachable when there were too many."""
    if failed >= len(PAUSES):
        fix = "check the network between the VM and the blob store, and that it is up; then apply again"
        raise Failure(
            "Transient", "Unreachable", f"the blob store can't be read from the VM: {error}", fix
        ) from None
    if stop.wait(min(max(error.pause, PAUSES[failed - 1]), LONGEST_PAUSE)):
        raise Stopped from None


def retried(act: Callable[[], T], stop: threading.Event) -> T:
    """Call `act` until it raises no Passing. Raises Unreachable, and what `act` raises."""
    failed = 0
    while True:
        try:
            return act()
        except Passing as error:
            failed += 1
            wait(failed, error, stop)
