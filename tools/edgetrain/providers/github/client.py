"""Calls of the REST API: signed, patient, paged, and asked with ETags so that what did not change costs nothing."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode, urljoin

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential, wait_random

from edgetrain.core.errors import Rejected, Transient
from edgetrain.core.secret import Secret
from edgetrain.providers.github.refusals import Later, refusal
from edgetrain.providers.github.transport import (
    FORMAT,
    VERSION,
    Answer,
    Transport,
    Unsure,
    check_secure,
    not_understood,
)

ATTEMPTS = 6
PATIENCE = 300.0  # seconds of pauses for one call
PAGES, PAGE = 50, 100
REDIRECTS = 3
KEPT, KEPT_SIZE = 128, 256 * 1024
_NEXT = re.compile(r"<([^<>]{1,4096})>\s*;[^,<]*?rel=\"?next\"?")
_backoff = wait_exponential(multiplier=1, max=30) + wait_random(0, 1)
T = TypeVar("T")


class GivenUp(Transient):
    """Patience is over: whoever asked for this call is not to begin it anew."""


class Credential(Protocol):
    """What signs calls."""

    def token(self) -> Secret:
        """What to send now. Raises Denied and others."""

    def renew(self, refused: Secret) -> bool:
        """The forge refused this one: whether there may be another."""


@dataclass(frozen=True)
class _Kept:
    etag: str
    answer: Answer


def path(*parts: object) -> str:
    """A path of quoted parts."""
    return "/" + "/".join(quote(str(part), safe="") for part in parts)


class Client:
    """Calls in the name of one credential; safe for many threads. `sleep` waits between attempts, seconds."""

    def __init__(
        self, transport: Transport, credential: Credential, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.transport, self.credential, self.sleep = transport, credential, sleep
        self.host = transport.host
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._sent: Secret | None = None

    def get(self, where: str, what: str, **query: object) -> dict[str, Any]:
        """The JSON object there; `what` completes "could not ...". Raises NotFound and others."""
        found = self._get(self._url(where, query), what).json(self.host)
        if not isinstance(found, dict):
            raise not_understood(self.host)
        return found

    def pages(
        self, where: str, what: str, key: str = "", most: int = PAGES, size: int = PAGE, **query: object
    ) -> Iterator[dict[str, Any]]:
        """The entries of all pages (`key` holds them where a page is an object), at most `most` pages of `size`.

        Raises Rejected if there are more, and for a page that is not the API's own.
        """
        url = self._url(where, {**query, "per_page": size})
        for _ in range(most):
            answer = self._get(url, what)
            page = answer.json(self.host)
            entries = page.get(key) if key and isinstance(page, dict) else page
            if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
                raise not_understood(self.host)
            yield from entries
            more = _NEXT.search(answer.headers.get("link", ""))
            if more is None:
                return
            url = urljoin(url, more[1])
            if not self.transport.own(url):
                raise not_understood(self.host)
        raise Rejected(
            f"{self.host}: could not {what}: more than {most * size} entries",
            reason="TooMany",
            fix="remove or close what is no longer needed there",
        )

    def send(self, method: str, where: str, what: str, body: Any = None, *, harmless: bool = False) -> Any:
        """Change something; the JSON of the answer.

        A POST whose answer did not come is not sent again, unless that is `harmless`: Unsure says so.
        """
        url = self._url(where, {})

        def attempt() -> Any:
            answer = self._signed(method, url, what, body)
            if answer.status >= 300:
                raise self._refusal(answer, what)
            return answer.json(self.host)

        return self._patient(attempt, unsure=method != "POST" or harmless)

    def download(self, where: str, what: str, most: int) -> bytes:
        """Bytes that the API gives or redirects to; another host sees no credential. Raises Rejected if there are
        more than `most`."""

        def attempt() -> bytes:
            answer = self._signed("GET", self._url(where, {}), what, most=most)
            base = self._url(where, {})
            for _ in range(REDIRECTS):
                if answer.status not in {301, 302, 303, 307, 308} or "location" not in answer.headers:
                    break
                base = urljoin(base, answer.headers["location"])
                answer = self.transport.send("GET", check_secure(base), {}, most=most)
            if answer.status != 200:
                raise self._refusal(answer, what)
            return answer.body

        return self._patient(attempt)

    def again(self, ensure: Callable[[], T]) -> T:
        """Do what ensures something; again, from its look at what is there, where it can't know what it did."""
        return Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, Unsure)),
            stop=_enough,
            wait=_pause,
            sleep=self.sleep,
            reraise=True,
        )(ensure)

    def _url(self, where: str, query: dict[str, object]) -> str:
        return self.transport.api + where + (f"?{urlencode(query)}" if query else "")

    def _get(self, url: str, what: str) -> Answer:
        return self._patient(lambda: self._asked(url, what))

    def _asked(self, url: str, what: str) -> Answer:
        with self._lock:
            kept = self._kept.get(url)
        answer = self._signed("GET", url, what, etag=kept.etag if kept else "")
        base = url
        for _ in range(REDIRECTS):
            if answer.status not in {301, 302, 307, 308} or "location" not in answer.headers:
                break
            base = urljoin(base, answer.headers["location"])
            if not self.transport.own(base):
                break
            answer = self._signed("GET", base, what)
        if answer.status == 304 and kept:
            return kept.answer
        if answer.status != 200:
            raise self._refusal(answer, what)
        answer.json(self.host)  # what is not sound is not kept
        if base == url and (etag := answer.headers.get("etag", "")) and len(answer.body) <= KEPT_SIZE:
            with self._lock:
                self._kept[url] = _Kept(etag, answer)
                self._kept.move_to_end(url)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        return answer

    def _signed(
        self, method: str, url: str, what: str, body: Any = None, *, etag: str = "", most: int | None = None
    ) -> Answer:
        """One exchange, and one more with a new credential if the forge refuses this one."""
        headers = {"Accept": FORMAT, "X-GitHub-Api-Version": VERSION}
        if etag:
            headers["If-None-Match"] = etag
        bounds = {} if most is None else {"most": most}
        for first in (True, False):
            self._sent = token = self.credential.token()
            signed = {**headers, "Authorization": f"Bearer {token.reveal()}"}
            answer = self.transport.send(method, url, signed, body, **bounds)
            if answer.status != 401:
                break
            if not (first and self.credential.renew(token)):
                raise refusal(answer, self.host, what, [token])
        return answer

    def _refusal(self, answer: Answer, what: str) -> Exception:
        return refusal(answer, self.host, what, [self._sent] if self._sent else [])

    def _patient(self, attempt: Callable[[], T], *, unsure: bool = True) -> T:
        """`unsure`: whether it may be tried again when it can't be known what an attempt did."""

        def passing(error: BaseException) -> bool:
            return (
                isinstance(error, Transient)
                and not isinstance(error, GivenUp)
                and (unsure or not isinstance(error, Unsure))
            )

        trying = Retrying(
            retry=retry_if_exception(passing), stop=_enough, wait=_pause, sleep=self.sleep, reraise=True
        )
        try:
            return trying(attempt)
        except Transient as error:
            if not passing(error):
                raise
            raise GivenUp(error.message, reason=error.reason, fix=error.fix) from None


def _pause(state: RetryCallState) -> float:
    failure = state.outcome.exception() if state.outcome else None
    if isinstance(failure, Later):
        return failure.after * (2.0 ** (state.attempt_number - 1) if failure.growing else 1.0)
    return _backoff(state)


def _enough(state: RetryCallState) -> bool:
    return state.attempt_number >= ATTEMPTS or state.idle_for + state.upcoming_sleep > PATIENCE
