"""One signed-in session with one workspace: azureml-core for what it does well, plain JSON calls for lists.

A session opens nothing until it is used: neither a package of Azure is imported, nor a request sent.
"""

from __future__ import annotations

import json as jsons
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from edgetrain.core.errors import Denied, ProviderError, Rejected, Transient
from edgetrain.core.ports import Settings
from edgetrain.core.secret import Secret
from edgetrain.providers.azureml.auth import Tokens, sign_in
from edgetrain.providers.azureml.clouds import Cloud, cloud_of, register, sdk_cloud
from edgetrain.providers.azureml.errors import SIGN_IN_REFUSED, translate
from edgetrain.providers.azureml.process import Surroundings, importing, open_sdk, private, quieten, surroundings
from edgetrain.providers.azureml.web import Web, ask

if TYPE_CHECKING:
    from azureml.core import Workspace
    from tenacity import RetryCallState

T = TypeVar("T")
ATTEMPTS = 4
# A service that asks to wait longer is left to the next apply.
LONGEST_WAIT = 120.0
WORKSPACE_VERSION = "2022-05-01"
MOST_ITEMS = 100_000
# Our names of the services to the keys of the workspace's discovery document.
SERVICES = {
    "api": "api",
    "history": "history",
    "models": "modelmanagement",
    "modelmanagement": "modelmanagement",
    "experimentation": "experimentation",
    "studio": "studio",
}


class Session:
    """A session for the `azureml` workspace block of `edgetrain.yaml`; safe for many threads.

    `sleep` and `now` are the clock: seconds to wait, and seconds on a clock that nobody sets.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        block = settings.block
        self.subscription = str(block["subscription"])
        self.group = str(block["resourceGroup"])
        self.name = str(block["name"])
        self.scope = (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.name}"
        )
        self._sleep = sleep
        self._now = now
        self._lock = threading.RLock()
        self._edges: dict[str, tuple[Cloud, Tokens]] = {}

    # What is made when it is first used. The lock: two threads would sign in twice.

    @cached_property
    def surroundings(self) -> Surroundings:
        """Our folder, and how the world is reached."""
        clouds = self.settings.clouds
        bundles = tuple(str(block["caBundle"]) for block in clouds.values() if block.get("caBundle"))
        return surroundings(self.settings.state, self.settings.outbound, bundles)

    @cached_property
    def cloud(self) -> Cloud:
        """The workspace's cloud."""
        return self._cloud(str(self.settings.block.get("cloud", "AzureCloud")))

    @cached_property
    def tokens(self) -> Tokens:
        """The tokens of the workspace's sign-in."""
        return self._tokens(self.cloud)

    @cached_property
    def _web(self) -> Web:
        return Web(lambda: self.tokens.get(self.cloud.audience), self._secrets)

    def _cloud(self, name: str) -> Cloud:
        self._enter()
        return self._retried(lambda: cloud_of(name, self.settings.clouds, ask))

    def _tokens(self, cloud: Cloud) -> Tokens:
        source = sign_in(
            self.settings.block["auth"], cloud, subscription=self.subscription, secret=self.settings.secret
        )
        return Tokens(source, self._now)

    def _enter(self) -> None:
        with self._lock:
            quieten()
            self.surroundings.use()

    def _secrets(self) -> tuple[Secret, ...]:
        held = self.tokens.secrets()
        with self._lock:
            return (*held, *(secret for _, tokens in self._edges.values() for secret in tokens.secrets()))

    # azureml-core

    @property
    def workspace(self) -> Workspace:
        """azureml-core's workspace, opened when it is first asked for."""
        with self._lock:
            if "_workspace" not in self.__dict__:
                self.__dict__["_workspace"] = self._open()
            opened: Workspace = self.__dict__["_workspace"]
            return opened

    def _open(self) -> Any:
        self._enter()
        open_sdk(self.surroundings)
        from azureml.core import Workspace

        from edgetrain.providers.azureml.sdk import authentication

        auth = authentication(self.tokens, self.cloud, sdk_cloud(self.cloud), self.subscription)
        return self.call(
            lambda: Workspace(self.subscription, self.group, self.name, auth=auth), f"opening workspace {self.name}"
        )

    def call(self, act: Callable[[], T], what: str, *, again: bool = True) -> T:
        """What `act` gives; it may call azureml-core. Any failure comes out as a provider error about `what`.

        A refused token is replaced and the call made once more. What may succeed later is tried again, with the
        waits that the service asks for, unless `again` is false: then `act` must not be repeated.
        """

        def once() -> T:
            self._enter()
            return self._renewed(lambda: self._translated(act, what))

        return self._retried(once) if again else once()

    def _translated(self, act: Callable[[], T], what: str) -> T:
        try:
            return act()
        except ProviderError:
            raise
        except Exception as error:  # the SDK raises anything, bare Exception too
            raise translate(error, what, self._secrets()) from None

    def _renewed(self, act: Callable[[], T]) -> T:
        """Once more with a new token, if the service refused the one we had."""
        held = self.tokens.secrets()
        try:
            return act()
        except Denied as error:
            if error.reason != SIGN_IN_REFUSED or not held:
                raise
            self.tokens.drop()
            return act()

    def _retried(self, act: Callable[[], T]) -> T:
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        usual = wait_random_exponential(multiplier=1, min=0.5, max=20)

        def wait(state: RetryCallState) -> float:
            asked = _asked(state)
            return usual(state) if asked is None else asked

        def stop(state: RetryCallState) -> bool:
            return (_asked(state) or 0) > LONGEST_WAIT or stop_after_attempt(ATTEMPTS)(state)

        return Retrying(
            retry=retry_if_exception_type(Transient), stop=stop, wait=wait, sleep=self._sleep, reraise=True
        )(act)

    # Plain calls

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """The workspace as Resource Manager describes it."""
        return self._object(
            self.get("arm", self.scope, {"api-version": WORKSPACE_VERSION}), f"workspace {self.name}"
        )

    @cached_property
    def endpoints(self) -> Mapping[str, str]:
        """The addresses of the workspace's services."""
        properties = self.document.get("properties")
        url = self.cloud.discovery or (properties or {}).get("discoveryUrl", "")
        found = self._object(self._retried(lambda: ask(_https(str(url)), {})), "the workspace's discovery document")
        return {name: _https(str(found[key])) for name, key in SERVICES.items() if isinstance(found.get(key), str)}

    @staticmethod
    def _object(document: Any, what: str) -> Mapping[str, Any]:
        if not isinstance(document, Mapping):
            raise Rejected(f"{what} is no object", reason="AnswerNotUnderstood", fix="check the cloud's endpoints")
        return document

    def base(self, service: str) -> str:
        """The address of a service: `arm`, or one of `SERVICES`."""
        with self._lock:
            if service == "arm":
                return self.cloud.resource_manager
            if service not in self.endpoints:
                raise Rejected(
                    f"the workspace has no service {service}", reason="NotServed", fix="check the workspace's state"
                )
            return self.endpoints[service]

    def _url(self, service: str, path: str) -> str:
        return f"{self.base(service)}{path.replace('{WS}', self.scope)}"

    def get(self, service: str, path: str, params: Mapping[str, str] | None = None) -> Any:
        """The JSON of a GET. `service` is `arm` or one of `SERVICES`; `{WS}` in `path` stands for `scope`."""
        return self.request("GET", service, path, params=params)

    def post(
        self,
        service: str,
        path: str,
        json: Any = None,
        params: Mapping[str, str] | None = None,
        *,
        again: bool = True,
    ) -> Any:
        """The JSON of a POST; `again` as for `call`."""
        return self.request("POST", service, path, json, params, again=again)

    def patch(self, service: str, path: str, json: Any = None, params: Mapping[str, str] | None = None) -> Any:
        """The JSON of a PATCH."""
        return self.request("PATCH", service, path, json, params)

    def put(self, service: str, path: str, json: Any = None, params: Mapping[str, str] | None = None) -> Any:
        """The JSON of a PUT."""
        return self.request("PUT", service, path, json, params)

    def delete(self, service: str, path: str, params: Mapping[str, str] | None = None) -> Any:
        """The JSON of a DELETE."""
        return self.request("DELETE", service, path, params=params)

    def request(
        self,
        method: str,
        service: str,
        path: str,
        json: Any = None,
        params: Mapping[str, str] | None = None,
        *,
        again: bool = True,
    ) -> Any:
        """The JSON of an answer, None where it has no body."""
        what = f"{method} of the workspace's {service}"

        def act() -> Any:
            return self._web.request(method, self._url(service, path), params, json, what)

        return self.call(act, what, again=again)

    def pages(
        self,
        service: str,
        path: str,
        params: Mapping[str, str] | None = None,
        json: Mapping[str, Any] | None = None,
        *,
        most: int = MOST_ITEMS,
    ) -> Iterator[Any]:
        """The items of a list, page by page: a GET, or a POST where `json` is given.

        Both ways to page are followed: `nextLink`, and `continuationToken` (into the body of a POST, or into the
        query). Raises Rejected for more than `most` items, and for a page that leads away from the service.
        """
        base, seen, count = self.base(service), set[str](), 0
        method, query, body = ("GET" if json is None else "POST"), dict(params or {}), dict(json or {})
        url = self._url(service, path)
        what = f"listing of the workspace's {service}"
        while True:

            def act(url: str = url, query: dict[str, str] = query, body: dict[str, Any] = body) -> Any:
                return self._web.request(method, url, query, body if method == "POST" else None, what)

            page = self._object(self.call(act, what), what)
            items = page.get("value")
            for item in items if isinstance(items, list) else []:
                count += 1
                if count > most:
                    raise Rejected(f"{what}: more than {most} items", reason="TooMany", fix="archive old ones")
                yield item
            link, token = page.get("nextLink"), page.get("continuationToken")
            mark = jsons.dumps([link, token])
            if not (link or token) or mark in seen:
                return
            seen.add(mark)
            if token and (method == "POST" or not link):
                body, query = {**body, "continuationToken": token}, {**query}
                if method == "GET":
                    query["continuationToken"] = str(token)
            else:
                url, query = str(link), {}
                if not url.startswith(f"{base}/"):
                    raise Rejected(f"{what}: the next page is elsewhere", reason="Redirected", fix="report it")

    # Tokens for others

    def registry_token(self, host: str) -> Secret:
        """The token that a container registry of the workspace's cloud exchanges for its own.

        Raises Rejected for another host: whoever gets this token can do all that we can.
        """
        if not self.cloud.holds_registry(host):
            raise Rejected(
                f"registry {host} is not of cloud {self.cloud.name}: the workspace's sign-in is not sent there",
                reason="RegistryElsewhere",
                fix="give the registry a credential of its own; of a declared cloud set registrySuffix",
            )
        self._enter()
        return self._retried(lambda: self.tokens.get(self.cloud.audience))

    def edge_token(self, cloud: str, audience: str = "") -> Secret:
        """A token of the same sign-in in another cloud, that of the edge; the audience is its Resource Manager's
        unless another is given."""
        with self._lock:
            if cloud not in self._edges:
                found = self._cloud(cloud)
                if found.custom and self.settings.block["auth"]["type"] != "cli":
                    with importing(private(self.surroundings)):
                        register(found, self.surroundings.configuration)
                self._edges[cloud] = (found, self._tokens(found))
            edge, tokens = self._edges[cloud]
        self._enter()
        return self._retried(lambda: tokens.get(audience or edge.audience))


def _asked(state: RetryCallState) -> float | None:
    failure = state.outcome.exception() if state.outcome is not None else None
    after: float | None = getattr(failure, "after", None)
    return after


def _https(url: str) -> str:
    if not url.startswith("https://"):
        raise Rejected(
            "the workspace names a service that is not reached over https",
            reason="InsecureService",
            fix="check the cloud's endpoints in edgetrain.yaml",
        )
    return url.rstrip("/")


_shared: dict[str, Session] = {}
_sharing = threading.Lock()


def shared(settings: Settings) -> Session:
    """The process's one session for these settings."""
    key = jsons.dumps(
        [str(settings.state), settings.block, settings.clouds, vars(settings.outbound)], sort_keys=True, default=str
    )
    with _sharing:
        if key not in _shared:
            _shared[key] = Session(settings)
        return _shared[key]


def registry_token(settings: Settings, host: str) -> Secret:
    """See `Session.registry_token`; for the settings of the workspace."""
    return shared(settings).registry_token(host)
