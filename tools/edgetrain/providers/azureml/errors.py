"""What Azure, its SDKs and the network raise, as provider errors: bounded text, one line, without secrets.

An SDK's exception is never turned to text as it is: `str()` of a `ServiceException` raises where the service's
answer has no `details`, and others hold whole answers, URLs with signatures and headers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from edgetrain.core.errors import Conflict, Denied, NotFound, ProviderError, Rejected, Transient, Unavailable
from edgetrain.core.secret import HIDDEN, Secret, redact

LONGEST = 400
_READ = 64 * 1024  # no more of an answer is looked at for its words
_MOST_WAIT = 3600.0
SIGN_IN_REFUSED = "SignInRefused"

_LATER = "try again later; edgetrain doctor says whether the workspace answers"
_NAMES = (
    "accountKey|sasToken|sas|signature|privateKeyData|privateKey|publicKeyData|passphrase|password|secret|secretValue"
    "|clientSecret|client_secret|client_assertion|assertion|access_token|refresh_token|id_token|token|credential"
    "|administratorAccount|connectionString|AccountKey|SharedAccessSignature|primaryKey|secondaryKey|key|apiKey"
    "|authorization|certificate|userStorageKey|adminUserName|value"
)
_PATTERNS = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]{1,40}-----.*?(?:-----END [A-Z0-9 ]{1,40}-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',;]{4,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[\w-]*(?:\.[\w-]*){0,4}"), HIDDEN),
    # A JSON value of a telling name: text, or anything up to the end of its object or list.
    (re.compile(rf"(?i)(\\*[\"'](?:{_NAMES})\\*[\"']\s*:\s*)\\*\"(?:[^\"\\]|\\.)*(?:\"|\Z)"), rf"\1{HIDDEN}"),
    (re.compile(rf"(?i)(\\*[\"'](?:{_NAMES})\\*[\"']\s*:\s*)'(?:[^'\\]|\\.)*(?:'|\Z)"), rf"\1{HIDDEN}"),
    (re.compile(rf"(?i)(\\*[\"'](?:{_NAMES})\\*[\"']\s*:\s*)[\[{{][^\]}}]*(?:[\]}}]|\Z)"), rf"\1{HIDDEN}"),
    (re.compile(rf"(?i)\b({_NAMES})\s*=\s*[^\s&;,\"']+"), rf"\1={HIDDEN}"),
    (
        re.compile(r"(?i)([?&;](?:amp;)?|\b)(sig|se|sp|sv|sr|st|skoid|sktid|ske|code)=[^\s&;,\"']+"),
        rf"\1\2={HIDDEN}",
    ),
    (re.compile(r"(?<=://)[^/\s@\"']{1,300}@"), ""),
    (re.compile(r"(?<=\w)\?[^\s\"'<>]{1,4000}=[^\s\"'<>]*"), f"?{HIDDEN}"),
    # What is long and dense is a key or a token, whatever it is called; identifiers have dashes or are shorter.
    (re.compile(r"[A-Za-z0-9+/_~]{40,}={0,2}"), HIDDEN),
)
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_TOLD_STATUS = re.compile(
    r"(?:Response Code|\"?status_?code\"?|Status Code|HTTP status|(?<=\. )Code)\W{1,3}([1-5]\d\d)\b", re.I
)
_TOLD_WAIT = re.compile(r"[\"']Retry-After[\"']\s*:\s*[\"'](\d{1,9})[\"']", re.I)
_QUOTA = re.compile(r"(?i)quota|limit ?exceeded|capacity")
_CERTIFICATE = re.compile(r"(?i)certificate.verify.failed|self.signed certificate|hostname.{1,40}mismatch")
_PROXY = re.compile(r"(?i)proxyerror|unable to connect to proxy|tunnel connection failed")
_TROUBLE = {
    "ConnectTimeout", "ConnectionAbortedError", "ConnectionError", "ConnectionRefusedError", "ConnectionResetError",
    "ConnectionTimeout", "ChunkedEncodingError", "ClientRequestError", "HTTPTimeoutError", "IncompleteRead",
    "IncompleteReadError", "MaxRetryError", "NameResolutionError", "NewConnectionError", "ProtocolError",
    "ReadTimeout", "ReadTimeoutError", "RemoteDisconnected", "RetryError", "ServiceRequestError",
    "ServiceRequestTimeoutError",
    "ServiceResponseError", "ServiceResponseTimeoutError", "Timeout", "TimeoutError", "BrokenPipeError", "gaierror",
}  # fmt: skip
_TIMEOUTS = {"ActivityFailedException"}


class Busy(Transient):
    """The service asks to wait: `after` in seconds, None where it does not say for how long."""

    def __init__(
        self, message: str, *, reason: str | None = None, fix: str = "", after: float | None = None
    ) -> None:
        super().__init__(message, reason=reason, fix=fix)
        self.after = after


def shown(text: object, secrets: Iterable[Secret] = (), longest: int = LONGEST) -> str:
    """Text of theirs as one bounded line without secrets."""
    try:
        plain = str(text)
    except Exception as error:  # the SDK's own exceptions fail here, with any kind of exception
        return type(error).__name__
    plain = redact(plain[:_READ], secrets)
    for pattern, put in _PATTERNS:
        plain = pattern.sub(put, plain)
    plain = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def wait_of(headers: Mapping[str, str] | None) -> float | None:
    """The seconds that an answer's headers ask to wait; None if they don't."""
    given = {str(name).lower(): str(value) for name, value in (headers or {}).items()}
    for name, unit in (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = given.get(name, "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", value):
            return min(float(value) * unit, _MOST_WAIT)
    try:
        moment = parsedate_to_datetime(given["retry-after"])
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), _MOST_WAIT)


def words(body: object) -> tuple[str, str]:
    """The code and the sentence of a refusal's body: `{"error": {"code", "message"}}`, or these keys at the top."""
    if isinstance(body, bytes):
        body = body[:_READ].decode("utf-8", "replace")
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return "", ""
    if not isinstance(body, Mapping):
        return "", ""
    told = body.get("error")
    if isinstance(told, str):  # OAuth's form
        return _code(told), str(body.get("error_description", ""))[:_READ]
    told = told if isinstance(told, Mapping) else body
    code = _code(told.get("code"))
    inner = told.get("innerError") or told.get("innererror")
    while isinstance(inner, Mapping):
        code = _code(inner.get("code")) or code
        inner = inner.get("innerError") or inner.get("innererror")
    message = told.get("message")
    return code, message[:_READ] if isinstance(message, str) else ""


def refusal(
    status: int,
    what: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: object = None,
    text: str = "",
    secrets: Iterable[Secret] = (),
) -> ProviderError:
    """The provider error of an answer with this status while doing `what`; `text` stands in for a body's words."""
    code, said = words(body)
    said = shown(said or text, secrets)
    name = code if code.isalnum() else ""
    message = f"{what}: the service answered {status}{f' {code}' if code else ''}{f': {said}' if said else ''}"
    told = f"{code} {said}"
    if status == 401:
        return Denied(
            message,
            reason=SIGN_IN_REFUSED,
            fix="check auth of the workspace in edgetrain.yaml, and the runner's clock",
        )
    if status == 403:
        if _QUOTA.search(code):
            return Rejected(message, reason="QuotaExceeded", fix="ask for more quota, or free some")
        return Denied(
            message,
            reason="RightMissing",
            fix="give the application the role of docs/azure.md in the workspace; a firewall or private endpoint "
            "may refuse the runner's address too",
        )
    if status in {404, 410}:
        return NotFound(
            message, fix="check that what is named is still in the workspace, and edgetrain.yaml's names"
        )
    if status in {409, 412, 423}:
        if _QUOTA.search(code):
            return Rejected(message, reason="QuotaExceeded", fix="ask for more quota, or free some")
        return Conflict(message, reason=name or None, fix="look in the workspace at what is there under this name")
    if status in {408, 425, 429} or status >= 500:
        if status == 501:
            return Rejected(
                message,
                reason="NotServed",
                fix="see that the workspace, or the service that stands for it, is one that this version knows",
            )
        return Busy(
            message,
            reason="Throttled" if status == 429 else "ServiceFault",
            fix=_LATER,
            after=wait_of(headers),
        )
    if 300 <= status < 400:
        return Rejected(message, reason="Redirected", fix="check the endpoints of the cloud in edgetrain.yaml")
    if _QUOTA.search(told):
        return Rejected(message, reason="QuotaExceeded", fix="ask for more quota, or free some")
    return Rejected(message, reason=name or "Refused", fix="change what the service refuses, as the message says")


def translate(error: BaseException, what: str, secrets: Iterable[Secret] = ()) -> ProviderError:
    """The provider error for whatever a call of an SDK raised while doing `what`."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, ProviderError):
            return link
    for link in chain:
        response = getattr(link, "response", None)
        status = _status(link, response)
        if status is not None:
            return refusal(
                status,
                what,
                headers=_headers(response),
                body=_body(response),
                text="" if response is not None else _message(link),
                secrets=secrets,
            )
        if {kind.__name__ for kind in type(link).__mro__} & _TROUBLE:
            # This is what failed; an answer further on is what was being handled when it did: the SDK makes an
            # experiment because it was told 404.
            return _without_answer(chain, what, secrets)
    for link in chain:
        told = _message(link)[:_READ]
        found, after = _TOLD_STATUS.search(told), _TOLD_WAIT.search(told)
        if found and int(found[1]) >= 300:
            headers = {"Retry-After": after[1]} if after else None
            # Snapshots and environments: "... Code: 429\n: " and the answer.
            body = told[found.end() :].removeprefix("\n: ")
            return refusal(int(found[1]), what, headers=headers, body=body, text=told, secrets=secrets)
    return _without_answer(chain, what, secrets)


def _without_answer(chain: list[BaseException], what: str, secrets: Iterable[Secret]) -> ProviderError:
    told = " ".join(_message(link)[:2000] for link in chain)
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    first = f"{what}: {type(chain[0]).__name__}"
    for link in chain:
        if isinstance(link, ImportError):
            return Unavailable(
                f"{what}: a package is not installed: {shown(link.name or '', longest=80)}",
                reason="PackageMissing",
                fix="pip install 'edgetrain[azureml]'",
            )
    if _CERTIFICATE.search(told) or "SSLCertVerificationError" in names:
        return Rejected(
            f"{what}: the service's certificate is not trusted",
            reason="CertificateUntrusted",
            fix="give the PEM file of the authority that signed it as proxy.caBundle in edgetrain.yaml",
        )
    if _PROXY.search(told) or "ProxyError" in names:
        return Transient(
            f"{what}: the proxy does not let us through", reason="ProxyFault", fix="check proxy in edgetrain.yaml"
        )
    if names & _TROUBLE or "SSLError" in names:
        return Transient(f"{what}: the service does not answer", reason="Unreachable", fix=_LATER)
    if names & _TIMEOUTS and "timeout" in told.lower():
        return Transient(f"{first}: timed out", reason="TimedOut", fix=_LATER)
    if isinstance(chain[0], OSError):
        return Unavailable(
            f"{first}: {shown(chain[0].strerror or '', secrets)}",
            reason="StateUnusable",
            fix="check the site's state location: owner, mode and free space",
        )
    said = shown(_message(chain[0]), secrets)
    if "ClientAuthenticationError" in names or "AuthenticationException" in names:
        return Denied(
            f"{first}: {said}", reason=SIGN_IN_REFUSED, fix="check auth of the workspace in edgetrain.yaml"
        )
    if _QUOTA.search(said):
        return Rejected(f"{first}: {said}", reason="QuotaExceeded", fix="ask for more quota, or free some")
    if isinstance(chain[0], KeyError | TypeError | AttributeError | IndexError | ValueError):
        # The SDK takes answers apart without looking: what is not as it thinks ends like this.
        return Rejected(
            f"{first}: {said}",
            reason="AnswerNotUnderstood",
            fix="the service's answer was not as expected; please report it with edgetrain doctor's output",
        )
    return Rejected(
        f"{first}: {said}", reason="Refused", fix="change what the service refuses, as the message says"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, each once."""
    queue: list[BaseException] = [error]
    seen: set[int] = set()
    while queue and len(seen) < 20:
        link = queue.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        reason = getattr(link, "reason", None)
        inner = (_attribute(link, "inner_exception"), _attribute(link, "_inner_exception"), reason)
        causes = [*inner, link.__cause__, None if link.__suppress_context__ else link.__context__, *link.args[:2]]
        queue += [cause for cause in causes if isinstance(cause, BaseException)]


def _attribute(owner: object, name: str) -> Any:
    try:
        return getattr(owner, name, None)
    except Exception:  # a property of theirs may fail with anything
        return None


def _status(link: BaseException, response: object) -> int | None:
    for owner in (link, response):
        for name in ("status_code", "status"):
            value = _attribute(owner, name) if owner is not None else None
            if type(value) is int and 300 <= value < 600:
                return value
    return None


def _headers(response: object) -> Mapping[str, str]:
    found = _attribute(response, "headers")
    return found if isinstance(found, Mapping) else {}


def _body(response: object) -> object:
    for name in ("text", "content", "body"):
        value = _attribute(response, name)
        if callable(value):
            value = _called(value)
        if isinstance(value, str | bytes) and value:
            return value
    return None


def _called(value: Any) -> Any:
    try:
        return value()
    except Exception:  # reading an answer that was cut off fails in its own ways
        return None


def _message(link: BaseException) -> str:
    message = _attribute(link, "message")
    if isinstance(message, str) and message:
        return message
    try:
        return str(link)
    except Exception:  # see the module's docstring
        return " ".join(part for part in link.args if isinstance(part, str))


def _code(value: object) -> str:
    return value if isinstance(value, str) and _CODE.fullmatch(value) else ""
