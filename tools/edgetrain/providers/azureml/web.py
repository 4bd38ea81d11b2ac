"""Plain JSON over HTTPS: bounded answers, no redirects, no cookies, nobody's netrc."""

from __future__ import annotations

import json as jsons
import threading
from collections.abc import Callable, Iterable, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any

from edgetrain.core.errors import Rejected
from edgetrain.core.secret import Secret
from edgetrain.providers.azureml.errors import refusal, translate

TIMEOUT = (10, 60)
MOST = 32 * 2**20
_local = threading.local()


class Web:
    """JSON calls that carry a token. `token` gives it anew for each, `secrets` what to keep out of messages."""

    def __init__(self, token: Callable[[], Secret], secrets: Callable[[], Iterable[Secret]]) -> None:
        self._token = token
        self._secrets = secrets

    def request(self, method: str, url: str, params: Mapping[str, str] | None, json: Any, what: str) -> Any:
        """The JSON of an answer, None where it has no body. Raises provider errors."""
        headers = {"Authorization": f"Bearer {self._token().reveal()}"}
        return _request(method, url, params, json, what, headers, self._secrets)


def ask(url: str, params: Mapping[str, str]) -> Any:
    """The JSON that anybody may read at an address."""
    return _request("GET", url, params, None, "asking a cloud for its addresses", {}, tuple)


def _request(
    method: str,
    url: str,
    params: Mapping[str, str] | None,
    json: Any,
    what: str,
    headers: Mapping[str, str],
    secrets: Callable[[], Iterable[Secret]],
) -> Any:
    # A PATCH with a list is a JSON Patch, which the model service takes by that name only.
    kind = {"Content-Type": "application/json-patch+json"} if method == "PATCH" and isinstance(json, list) else {}
    try:
        with _session().request(
            method,
            url,
            params=params,
            json=json,
            headers={**headers, "Accept": "application/json", **kind},
            timeout=TIMEOUT,
            allow_redirects=False,
            stream=True,
        ) as answer:
            body = bytearray()
            for chunk in answer.iter_content(64 * 1024):
                body += chunk
                if len(body) > MOST:
                    raise Rejected(
                        f"{what}: the answer is too large",
                        reason="TooMany",
                        fix="archive or remove old ones in the workspace",
                    )
            if answer.status_code >= 300:
                raise refusal(answer.status_code, what, headers=answer.headers, body=bytes(body), secrets=secrets())
            return jsons.loads(body) if body.strip() else None
    except OSError as error:  # all of requests' own are
        raise translate(error, what, secrets()) from None
    except (ValueError, RecursionError) as error:
        raise Rejected(
            f"{what}: the answer is no JSON ({type(error).__name__})",
            reason="AnswerNotUnderstood",
            fix="check the cloud's endpoints and the proxy in edgetrain.yaml",
        ) from None


def _session() -> Any:
    """A session of requests for each thread: it isn't made for many."""
    if not hasattr(_local, "session"):
        import requests

        session = requests.Session()
        session.auth = lambda request: request  # else requests looks for one in a netrc
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        _local.session = session
    return _local.session
