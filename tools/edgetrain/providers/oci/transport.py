"""HTTP to one registry and the hosts that it sends us to: trust, proxy, faults by their kind, patience.

Nothing here knows a credential: headers are given, and a redirect's next hop gets none.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import urllib3
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)
from urllib3 import exceptions as broken

from edgetrain.core.errors import Conflict, Denied, NotFound, ProviderError, Rejected, Transient
from edgetrain.core.ports import Outbound
from edgetrain.providers.outbound import check_bundles, loopback, proxy_for, trust, untrusted

Body = bytes | Iterable[bytes]
Answer = urllib3.BaseHTTPResponse

BLOCK = 2**20
ANSWER_SIZE = 2**20
ATTEMPTS = 6
LONGEST_WAIT = 60.0  # seconds, whatever the registry asks for
REDIRECTS = 5
# Seconds without a byte. A registry may hash a layer of gigabytes before it answers a PUT.
TIMEOUT = urllib3.Timeout(connect=10, read=60)
SLOW = urllib3.Timeout(connect=10, read=300)
_CODE = re.compile(r"[A-Z][A-Z_]{0,39}")
_PASSING = {408, 425, 429}
_backoff = wait_exponential(multiplier=0.5, max=20) + wait_random(0, 0.5)


class Throttled(Transient):
    """The registry says when to come again: `after` seconds."""

    after = 0.0


def patient(sleep: Callable[[float], None]) -> Retrying:
    """Tries again what failed for now, with growing pauses, or the pause that the registry asks for."""
    return Retrying(
        retry=retry_if_exception_type(Transient),
        stop=stop_after_attempt(ATTEMPTS),
        wait=_pause,
        sleep=sleep,
        reraise=True,
    )


def _pause(state: RetryCallState) -> float:
    failure = state.outcome.exception() if state.outcome else None
    if isinstance(failure, Throttled):
        return min(failure.after, LONGEST_WAIT)
    return _backoff(state)


class Transport:
    """Connections to `host` (with port where it is not the scheme's); safe for many threads.

    `ca_bundle` is trusted beside what `outbound` trusts. Raises Rejected for plain http to another machine.
    """

    def __init__(self, host: str, *, plain_http: bool = False, outbound: Outbound, ca_bundle: str = "") -> None:
        if plain_http and not loopback(urlsplit(f"//{host}").hostname or ""):
            raise Rejected(
                f"plain http to {host}: credentials and images would be readable on the way",
                reason="PlainHttp",
                fix="use https; plainHttp is for a registry on this machine",
            )
        self.host = host
        self.url = f"{'http' if plain_http else 'https'}://{host}"
        self._outbound = outbound
        self._ca_bundle = ca_bundle
        check_bundles(outbound.ca_bundle, ca_bundle)
        self._making = threading.Lock()
        self._pools: dict[tuple[bool, bool], urllib3.PoolManager] = {}

    def own(self, url: str) -> bool:
        """Whether the URL is of the registry itself, so that it may see its credentials."""
        return _origin(url) == _origin(self.url)

    def absolute(self, location: str, base: str) -> str:
        """Where a Location header points to, read at `base`.

        A registry behind a proxy that ends TLS may name itself with http: that is still itself, over https.
        Raises Rejected for anything else that would leave https.
        """
        url = urljoin(base, location)
        if urlsplit(url).netloc == urlsplit(self.url).netloc:
            return self.url + url[len("://".join(urlsplit(url)[:2])) :]
        if urlsplit(url).scheme != "https" and not (self.url.startswith("http:") and url.startswith("http:")):
            raise Rejected(
                f"{self.host} sends us to an address without https",
                reason="InsecureRedirect",
                fix="correct the registry's settings, or its proxy's",
            )
        return url

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Body | None = None,
        follow: bool = False,
    ) -> Answer:
        """One attempt; the answer's body is still to be read. `follow` follows redirects (of GET and HEAD).

        Raises Transient where no answer came, Rejected where none will ever come.
        """
        for _ in range(REDIRECTS):
            answer = self._send(method, url, headers, body)
            if not (follow and answer.status in {301, 302, 303, 307, 308} and "location" in answer.headers):
                return answer
            discard(answer)
            url = self.absolute(answer.headers["location"], url)
            if not self.own(url):
                headers = {k: v for k, v in headers.items() if k.lower() in {"accept", "range", "user-agent"}}
        raise Rejected(
            f"{self.host} redirects without end", reason="Redirects", fix="correct the registry's settings"
        )

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: Body | None) -> Answer:
        host = urlsplit(url).netloc
        try:
            return self._pool(url).request(
                method,
                url,
                body=body,
                headers={"User-Agent": "edgetrain", **headers},
                redirect=False,
                timeout=SLOW if method == "PUT" else TIMEOUT,
                preload_content=False,
                decode_content=False,
            )
        except (broken.HTTPError, OSError) as error:
            raise fault(error, host) from None

    def _pool(self, url: str) -> urllib3.PoolManager:
        """The connections to be used; the authorities to trust are read when they are needed."""
        proxy = proxy_for(self._outbound, urlsplit(url).hostname or "")
        secure = url.startswith("https:") or proxy.startswith("https:")
        with self._making:
            if (secure, bool(proxy)) not in self._pools:
                settings: dict[str, Any] = {"maxsize": 8, "blocksize": BLOCK, "retries": False}
                if secure:
                    settings["ssl_context"] = trust(self._outbound.ca_bundle, self._ca_bundle)
                made = urllib3.ProxyManager(proxy, **settings) if proxy else urllib3.PoolManager(**settings)
                self._pools[secure, bool(proxy)] = made
            return self._pools[secure, bool(proxy)]


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def fault(error: Exception, host: str) -> ProviderError:
    """What a failed exchange of bytes means. Names the host and the kind, and nothing that was sent."""
    chain: list[BaseException] = []
    todo: list[object] = [error]
    while todo and len(chain) < 20:
        one = todo.pop(0)
        if isinstance(one, BaseException) and one not in chain:
            chain.append(one)
            todo += [one.__cause__, one.__context__, *one.args]
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            return untrusted(one, host)
    for one in chain:
        if isinstance(one, broken.NameResolutionError):
            return Transient(
                f"{host}: no such name",
                reason="NameUnknown",
                fix="check the registry's host in edgetrain.yaml, and DNS",
            )
        if isinstance(one, ConnectionRefusedError):
            return Transient(
                f"{host}: nothing listens there",
                reason="ConnectionRefused",
                fix="start the registry, or correct its host in edgetrain.yaml",
            )
        if isinstance(one, broken.ProxyError):
            return Transient(
                f"{host}: the proxy does not let us through",
                reason="ProxyFailed",
                fix="check proxy in edgetrain.yaml",
            )
        if isinstance(one, ssl.SSLError) and one.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST"}:
            return Rejected(
                f"{host}: does not speak TLS",
                reason="NoTls",
                fix="check the port of the registry's host in edgetrain.yaml",
            )
    for one in chain:
        if isinstance(one, broken.TimeoutError | TimeoutError):
            return Transient(
                f"{host}: no answer in time",
                reason="TimedOut",
                fix="check the network between here and the registry, then apply again",
            )
        if isinstance(one, broken.LocationValueError):
            return Rejected(f"{host}: not an address", reason="BadAddress", fix="correct host in edgetrain.yaml")
    return Transient(
        f"{host}: the connection broke",
        reason="ConnectionBroke",
        fix="check the network between here and the registry, then apply again",
    )


def refusal(answer: Answer, host: str, what: str, passing: Collection[str] = ()) -> ProviderError:
    """The error of an answer that is not what was asked for; reads (a little of) its body, and closes it.

    `passing` are codes of the API that pass by themselves where this was asked.
    """
    status, code = answer.status, _code(answer)
    message = f"{host} refused to {what}: {status}{f' {code}' if code else ''}"
    if code in passing or status in _PASSING or (status >= 500 and status != 501):
        after = _after(answer.headers.get("retry-after", ""))
        if after is None:
            return Transient(message, reason="RegistryBusy", fix="apply again later")
        throttled = Throttled(message, reason="RegistryBusy", fix="apply again later")
        throttled.after = after
        return throttled
    lacking = status == 401 and "insufficient_scope" in answer.headers.get("www-authenticate", "")
    if status == 401 and not lacking:
        return Denied(message, reason="LoginRefused", fix="look at the registry's credential in edgetrain.yaml")
    if lacking or status == 403 or code == "DENIED":
        return Denied(message, reason="NoRight", fix="give the credential's user the right to this repository")
    if status == 404:
        return NotFound(message, reason="NotThere", fix="look at the repository's name and the digest")
    if status == 409:
        return Conflict(message, reason="RegistryConflict", fix="apply again; else ask who else pushes there")
    if status in {405, 501} or code == "UNSUPPORTED":
        return Rejected(
            message,
            reason="RegistryUnsupported",
            fix="use a registry of the OCI distribution API, version 1.0 or later",
        )
    if code == "DIGEST_INVALID":
        return Rejected(message, reason="DigestMismatch", fix="check the artifact store's disk, then apply again")
    if status == 413:
        return Rejected(
            message, reason="TooLarge", fix="raise the limit of the registry, or of the proxy before it"
        )
    return Rejected(message, reason="RegistryRefused", fix="look at the registry's log")


def _code(answer: Answer) -> str:
    """The distribution API's error code; the registry's own words are left out, for they may repeat ours."""
    try:
        errors = read_json(answer, 64 * 1024).get("errors")
    except ProviderError:
        return ""
    first = errors[0] if isinstance(errors, list) and errors else None
    code = first.get("code") if isinstance(first, dict) else None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def _after(text: str) -> float | None:
    """Seconds of a Retry-After header: RFC 9110, section 10.2.3."""
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def read(answer: Answer, limit: int = ANSWER_SIZE) -> bytes:
    """The whole body, at most `limit` bytes. Raises Rejected over that, Transient if it breaks off."""
    parts: list[bytes] = []
    left = limit + 1
    try:
        while left and (part := answer.read(min(left, BLOCK))):
            parts.append(part)
            left -= len(part)
    except (broken.HTTPError, OSError) as error:
        answer.close()
        raise fault(error, "the registry") from None
    if not left:
        answer.close()
        raise Rejected(
            f"an answer of the registry is over {limit} bytes",
            reason="TooLarge",
            fix="ask the registry's operator, or use another",
        )
    answer.release_conn()
    return b"".join(parts)


def read_json(answer: Answer, limit: int = ANSWER_SIZE) -> dict[str, Any]:
    """The body as a JSON object. Raises Rejected."""
    try:
        value = json.loads(read(answer, limit))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Rejected(
            "an answer of the registry is no JSON object",
            reason="NotARegistry",
            fix="check the registry's host in edgetrain.yaml, and what stands before it",
        )
    return value


def discard(answer: Answer) -> None:
    """Done with an answer whose body is of no interest; keeps the connection if little is left on it."""
    try:
        read(answer, 64 * 1024)
    except ProviderError:
        answer.close()
