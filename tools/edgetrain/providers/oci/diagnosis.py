"""What `doctor` finds out of a registry: whether it answers, lets us in, and would take a push."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgetrain.core.errors import Denied, ProviderError, Rejected
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.providers.oci.client import Client
from edgetrain.providers.oci.transport import discard, refusal
from edgetrain.providers.oci.upload import begin, cancel


def diagnose(client: Client, paths: Sequence[str]) -> list[Check]:
    """Checks `registry` and, if that passes, `registry-push` for each repository (full paths)."""
    found = [_check("registry", f"{client.host} answers and takes our sign-in", lambda: _answers(client))]
    if found[0].status is CheckStatus.PASS:
        for path in paths:
            what = f"{client.host}/{path} takes a push"
            found.append(_check("registry-push", what, lambda path=path: _takes(client, path)))  # type: ignore[misc]
    return found


def _answers(client: Client) -> None:
    answer = client.once("GET", "/v2/", frozenset())
    if answer.status == 404:
        discard(answer)
        raise Rejected(
            f"{client.host} speaks http, but not the distribution API",
            reason="NotARegistry",
            fix="correct host in edgetrain.yaml",
        )
    if answer.status != 200:
        raise refusal(answer, client.host, "let us in")
    discard(answer)


def _takes(client: Client, path: str) -> None:
    """Start an upload, which needs the right to push, and give it up."""
    location = begin(client, path)
    if not cancel(client, path, location):
        raise Denied(
            f"{client.host}/{path} takes uploads, but does not let us give one up",
            reason="UploadLeft",
            fix="nothing needs doing: the registry removes it by itself",
        )


def _check(name: str, passed: str, act: Callable[[], None]) -> Check:
    try:
        act()
    except ProviderError as error:
        harmless = error.reason == "UploadLeft"
        status = CheckStatus.WARN if harmless else CheckStatus.FAIL
        return Check(name, status, error.message, error.reason, error.fix)
    return Check(name, CheckStatus.PASS, passed)
