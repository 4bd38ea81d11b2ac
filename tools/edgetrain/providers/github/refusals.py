"""What an answer that is none of what was asked for means: rate limits, lacking rights, conflicts, faults."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from edgetrain.core.errors import Conflict, Denied, NotFound, ProviderError, Rejected, Transient
from edgetrain.core.problem import shown
from edgetrain.core.secret import Secret, redact
from edgetrain.providers.github.transport import Answer, Unsure

MINUTE = 60.0
SKEW = 60.0  # seconds; signatures of the App live for some minutes


class Later(Transient):
    """The forge says when to come again: in `after` seconds; `growing` if it would not say how long it takes."""

    after = 0.0
    growing = False


def refusal(answer: Answer, host: str, what: str, secrets: Iterable[Secret] = ()) -> ProviderError:
    """The error of an answer; `what` completes "could not ..."."""
    words = _words(answer, secrets)
    message = f"{host}: could not {what}: {answer.status}{f' {words}' if words else ''}"
    limited = _limited(answer, words, message)
    if limited is not None:
        return limited
    status = answer.status
    if status in {408, 425}:
        return Transient(message, reason="ForgeBusy", fix="try again later")
    if status >= 500:
        return Unsure(message, reason="ForgeBusy", fix="try again later; see the forge's status page")
    if status == 401 and abs(server_time(answer) - time.time()) > SKEW:
        return Denied(
            message, reason="ClockSkew", fix="set this machine's clock: the forge's is minutes away from it"
        )
    if status == 401:
        return Denied(
            message,
            reason="LoginRefused",
            fix="look at the App's key or the token that spec.forge names, and at the clock",
        )
    if status == 403:
        return Denied(message, reason="NoRight", fix=needed(answer))
    if status in {404, 410}:
        return NotFound(
            message, reason="NotThere", fix="look at spec.forge.repository, and at what the credential may see"
        )
    if status == 409:
        return Conflict(message, reason="ForgeConflict", fix="apply again")
    if status in {301, 302, 303, 307, 308}:
        return Rejected(
            message, reason="Moved", fix="the repository has another name now: correct spec.forge in edgetrain.yaml"
        )
    return Rejected(message, reason="ForgeRefused", fix="read the forge's words")


def needed(answer: Answer) -> str:
    """Which rights would have been enough, as the forge tells."""
    said = answer.headers.get("x-accepted-github-permissions", "")
    if said:
        return f"give the App (or token) one of these rights: {shown(said, 200)}"
    return "give the App (or token) the right to this; an App's owner must accept new rights where it is installed"


def _limited(answer: Answer, words: str, message: str) -> Later | None:
    if answer.status not in {403, 429}:
        return None
    after, growing = _number(answer.headers.get("retry-after", "")), False
    if after is None and answer.headers.get("x-ratelimit-remaining", "") == "0":
        reset = _number(answer.headers.get("x-ratelimit-reset", ""))
        after = None if reset is None else reset - server_time(answer) + 1
    if after is None and (answer.status == 429 or "rate limit" in words.lower() or "abuse" in words.lower()):
        after, growing = MINUTE, True
    if after is None:
        return None
    until = datetime.fromtimestamp(time.time() + max(after, 1.0), UTC).strftime("%H:%M UTC")
    later = Later(message, reason="RateLimited", fix=f"the forge limits our calls: try again after {until}")
    later.after, later.growing = min(max(after, 1.0), 86_400.0), growing
    return later


def server_time(answer: Answer) -> float:
    """The forge's clock at the answer, in seconds since 1970; ours if it does not tell."""
    try:
        return parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except (ValueError, OverflowError):
        return time.time()


def _number(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _words(answer: Answer, secrets: Iterable[Secret]) -> str:
    """What the forge says of it, bounded, on one line."""
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(said, dict):
        return ""
    found = [said["message"]] if isinstance(said.get("message"), str) else []
    errors = said.get("errors")
    for one in errors[:5] if isinstance(errors, list) else []:
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, dict):
            parts = (one.get(key) for key in ("message", "resource", "field", "code"))
            found.append(" ".join(part for part in parts if isinstance(part, str)))
    return shown(redact(" ".join("; ".join(found).split()), secrets), 300)
