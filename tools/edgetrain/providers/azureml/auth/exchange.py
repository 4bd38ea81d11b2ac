"""What all ways to sign in have in common: a watched HTTP client for msal, and what its answers mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from edgetrain.core.errors import Denied, ProviderError, Rejected
from edgetrain.core.secret import Secret
from edgetrain.providers.azureml.auth.tokens import Token
from edgetrain.providers.azureml.clouds import Cloud
from edgetrain.providers.azureml.errors import refusal, shown, translate

TIMEOUT = (10, 60)
_LONGEST_LIFE = 86400.0


class Watched:
    """An HTTP client as msal wants it, that remembers the last answer: msal tells no status and no Retry-After."""

    def __init__(self, *, direct: bool = False, verify: str = "") -> None:
        import requests

        self._session = requests.Session()
        if direct:
            self._session.trust_env = False
            self._session.verify = verify or True
        # An authentication of its own keeps requests from looking for one in a netrc.
        self._session.auth = lambda request: request
        self.answer: Any = None

    def get(self, url: str, **options: Any) -> Any:
        """As requests."""
        return self._send("GET", url, options)

    def post(self, url: str, **options: Any) -> Any:
        """As requests."""
        return self._send("POST", url, options)

    def close(self) -> None:
        """As requests."""
        self._session.close()

    def _send(self, method: str, url: str, options: Mapping[str, Any]) -> Any:
        self.answer = None
        self.answer = self._session.request(
            method, url, **{"timeout": TIMEOUT, "allow_redirects": False, **options}
        )
        return self.answer


def acquired(call: Callable[[], Any], client: Watched, what: str, secrets: Iterable[Secret] = ()) -> Token:
    """The token of msal's `call`, or why there is none."""
    secrets = tuple(secrets)
    try:
        got = call()
    except ProviderError:
        raise
    except Exception as error:  # msal raises whatever its layers do
        failure = _by_status(client, what, secrets)
        raise failure or _unusable(error, what, secrets) from None
    finally:
        client.close()
    if isinstance(got, Mapping) and isinstance(got.get("access_token"), str) and got["access_token"]:
        life = got.get("expires_in", 0)
        life = float(life) if isinstance(life, int | float | str) and str(life).isdigit() else 0.0
        return Token(Secret(got["access_token"]), min(life, _LONGEST_LIFE))
    failure = _by_status(client, what, secrets)
    if failure is not None:
        raise failure
    said = got if isinstance(got, Mapping) else {}
    code = shown(said.get("error", ""), longest=80)
    # Entra's own words say what is wrong (AADSTS7000222: the secret has expired); its trace is on further lines.
    lines = str(said.get("error_description", "")).splitlines()
    message = f"{what}: sign-in refused{f' ({code})' if code else ''}"
    raise Denied(
        f"{message}: {shown(lines[0], secrets)}" if lines else message,
        reason="SignInRefused",
        fix="check the workspace's auth in edgetrain.yaml: tenant, clientId, and its secret or federation",
    )


def _by_status(client: Watched, what: str, secrets: Iterable[Secret]) -> ProviderError | None:
    """For an answer that says nothing about us: busy, broken, or no such address."""
    answer = client.answer
    status = getattr(answer, "status_code", 200)
    if status in {408, 429} or status >= 500:
        return refusal(status, what, headers=answer.headers, body=answer.text, secrets=secrets)
    if status == 404 or (status == 400 and "/.well-known/" in str(answer.url)):
        return Rejected(
            f"{what}: the authority does not know this address",
            reason="AuthorityUnknown",
            fix="check auth.tenant, and the cloud's activeDirectory, in edgetrain.yaml",
        )
    return None


def _unusable(error: Exception, what: str, secrets: Iterable[Secret]) -> ProviderError:
    failure = translate(error, what, secrets)
    if failure.reason == "AnswerNotUnderstood":
        return Rejected(
            f"{what}: the authority can't be used: {shown(error, secrets)}",
            reason="AuthorityUnknown",
            fix="check auth.tenant, and the cloud's activeDirectory, in edgetrain.yaml",
        )
    return failure


def application(cloud: Cloud, tenant: str, client_id: str, credential: Any, client: Watched) -> Any:
    """msal's application. Made anew for each token: it would else answer from caches of its own, of tokens and of
    refusals, that we could not make it forget. No authority is validated at the public cloud's: ours are known or
    declared, and a site may reach nothing else."""
    import msal

    return msal.ConfidentialClientApplication(
        client_id,
        client_credential=credential,
        authority=cloud.authority_of(tenant),
        instance_discovery=False,
        http_client=client,
    )


def scopes(audience: str) -> list[str]:
    """The scope for a resource's whole audience; a resource may end with a slash that belongs to it."""
    return [f"{audience}/.default"]
