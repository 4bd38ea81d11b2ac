"""HTTP to the forge: one exchange at a time, bounded in size and time, its failures by their kind.

Nothing here knows a credential or follows a redirect.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import httpx

from edgetrain.core.errors import ProviderError, Rejected, Transient
from edgetrain.core.ports import Outbound
from edgetrain.providers.outbound import check_bundles, loopback, proxy_for, trust, untrusted

MOST = 16 * 2**20  # bytes of an answer
LONGEST = 300.0  # seconds for one answer, however slowly it trickles
TIMEOUT = httpx.Timeout(60.0, connect=10.0)  # seconds without a byte
FORMAT = "application/vnd.github+json"
VERSION = "2022-11-28"

# They would write addresses that are signed, and headers, into logs.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class Unsure(Transient):
    """It broke after the request had gone: what was asked for may have been done."""


@dataclass(frozen=True)
class Answer:
    """One answer. `headers` find their names in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self, host: str) -> Any:
        """The body's value; None if it is empty. Raises Transient if it was cut, Rejected if it is no JSON."""
        if not self.body.strip():
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            if "json" in self.headers.get("content-type", ""):
                raise Unsure(f"{host}: an answer ended early", reason="AnswerCut", fix="try again later") from None
            raise not_understood(host) from None


def not_understood(host: str) -> Rejected:
    """The error of an answer that is not GitHub's."""
    return Rejected(
        f"{host}: the answer is not as GitHub's are",
        reason="AnswerNotUnderstood",
        fix="look at spec.forge.api and at the proxy in edgetrain.yaml",
    )


class Transport:
    """Connections to the API (an URL without a slash at its end); safe for many threads.

    Raises Rejected for plain http to another machine.
    """

    def __init__(self, api: str, outbound: Outbound, *, now: Callable[[], float] = time.monotonic) -> None:
        self.api = api.rstrip("/")
        self.host = urlsplit(self.api).netloc.rpartition("@")[2]
        self._outbound, self._now = outbound, now
        self._clients: dict[tuple[str, bool], httpx.Client] = {}
        self._making = threading.Lock()
        check_secure(self.api)
        check_bundles(outbound.ca_bundle)

    def own(self, url: str) -> bool:
        """Whether the URL is of the API itself, so that it may see a credential."""
        return url.startswith(self.api + "/")

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Any = None,
        most: int = MOST,
    ) -> Answer:
        """One exchange. Raises Transient (Unsure once the request has gone), Rejected if no answer can come."""
        host = urlsplit(url).netloc.rpartition("@")[2]
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        sent = {"User-Agent": "edgetrain", "Accept-Encoding": "identity", **headers}
        if content is not None:
            sent["Content-Type"] = "application/json"
        started = self._now()
        try:
            with self._client(url).stream(method, url, headers=sent, content=content) as answer:
                if answer.headers.get("content-encoding", "identity") != "identity":
                    raise not_understood(host)
                data = bytearray()
                for chunk in answer.iter_raw(64 * 1024):
                    data += chunk
                    if len(data) > most:
                        raise Rejected(
                            f"{host}: an answer has more than {most} bytes",
                            reason="TooLarge",
                            fix="look at what answers there",
                        )
                    if self._now() - started > LONGEST:
                        raise Unsure(f"{host}: an answer takes too long", reason="TimedOut", fix="try again later")
                return Answer(answer.status_code, answer.headers, bytes(data))
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            raise fault(error, host) from None

    def _client(self, url: str) -> httpx.Client:
        """The connections to be used; the authorities to trust are read when they are needed."""
        proxy = proxy_for(self._outbound, urlsplit(url).hostname or "")
        secure = url.startswith("https:") or proxy.startswith("https:")
        with self._making:
            if (proxy, secure) not in self._clients:
                # Without TLS nobody is trusted: reading the machine's authorities takes its time.
                context = trust(self._outbound.ca_bundle) if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                by = None
                if proxy:
                    by = httpx.Proxy(proxy, ssl_context=context if proxy.startswith("https:") else None)
                # Without `trust_env` no netrc adds a credential, and no variable another proxy.
                client = httpx.Client(verify=context, proxy=by, trust_env=False, timeout=TIMEOUT)
                client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
                self._clients[proxy, secure] = client
            return self._clients[proxy, secure]


def check_secure(url: str) -> str:
    """The URL. Raises Rejected unless it is https, or of this machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback(parts.hostname or "")):
        raise Rejected(
            f"{parts.netloc.rpartition('@')[2]} is not reached by https: tokens would be readable on the way",
            reason="PlainHttp",
            fix="use https in edgetrain.yaml: spec.forge",
        )
    return url


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo and len(seen) < 20:
        one = todo.pop(0)
        if one is not None and one not in seen:
            seen.append(one)
            todo += [one.__cause__, one.__context__]
    return iter(seen)


def fault(error: Exception, host: str) -> ProviderError:
    """What a failed exchange means. Names the host and the kind, and nothing that was sent."""
    for one in _chain(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return untrusted(one, host)
        if isinstance(one, ssl.SSLError) and one.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST"}:
            return Rejected(
                f"{host}: does not speak TLS", reason="NoTls", fix="check the port in spec.forge of edgetrain.yaml"
            )
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return Rejected(f"{host}: not an address", reason="BadAddress", fix="correct spec.forge in edgetrain.yaml")
    if isinstance(error, httpx.ProxyError):
        return Transient(
            f"{host}: the proxy does not let us through",
            reason="ProxyFailed",
            fix="look at proxy in edgetrain.yaml",
        )
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return Transient(
            f"{host}: can't be reached in time",
            reason="TimedOut",
            fix="check the network and proxy of this machine, then try again",
        )
    if isinstance(error, httpx.ConnectError):
        return Transient(
            f"{host}: can't be reached",
            reason="NotReached",
            fix="look at the network, DNS and proxy of this machine",
        )
    if isinstance(error, httpx.TimeoutException):
        return Unsure(f"{host}: no answer in time", reason="TimedOut", fix="try again later")
    return Unsure(
        f"{host}: the connection broke",
        reason="ConnectionBroke",
        fix="check the network and proxy of this machine, then try again",
    )
