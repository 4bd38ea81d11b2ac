"""One signed-in session with one workspace: azureml-core for what it does well, plain JSON calls for lists.

A session opens nothing until it is used: neither a package of Azure is imported, nor a request sent.
"""

from __future__ import annotations

import json as jsons
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from edgetrain.core.errors import Denied, ProviderError, Rejected
from edgetrain.core.ports import Settings
from edgetrain.core.secret import Secret
from edgetrain.providers.azureml.auth import Tokens, sign_in
from edgetrain.providers.azureml.clouds import Cloud, cloud_of, register
from edgetrain.providers.azureml.errors import SIGN_IN_REFUSED, translate
from edgetrain.providers.azureml.paging import MOST_ITEMS
from edgetrain.providers.azureml.paging import pages as paged
from edgetrain.providers.azureml.process import (
    Surroundings,
    folders,
    open_sdk,
    private,
    quieten,
    surroundings,
)
from edgetrain.providers.azureml.retries import retried
from edgetrain.providers.azureml.web import Web, ask

if TYPE_CHECKING:
    from azureml.core import Workspace

T = TypeVar("T")
WORKSPACE_VERSION = "2022-05-01"
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
        self._made: dict[str, Any] = {}
        self._edges: dict[str, Tokens] = {}
        self._inside = _Depth()
        self._web = Web(lambda: self.tokens.get(self.cloud.audience), self._secrets)

    # What is made when it is first used, once for all threads.

    def _once(self, name: str, make: Callable[[], T]) -> T:
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            made: T = self._made[name]
            return made

    @property
    def surroundings(self) -> Surroundings:
        """Our folder, and how the world is reached."""

        def make() -> Surroundings:
            clouds = self.settings.clouds.values()
            bundles = tuple(str(block["caBundle"]) for block in clouds if block.get("caBundle"))
            return surroundings(self.settings.state, self.settings.outbound, bundles)

        return self._once("surroundings", make)

    @property
    def cloud(self) -> Cloud:
        """The workspace's cloud."""
        return self._once("cloud", lambda: self._cloud(str(self.settings.block.get("cloud", "AzureCloud"))))

    @property
    def tokens(self) -> Tokens:
        """The tokens of the workspace's sign-in."""
        return self._once("tokens", lambda: self._tokens(self.cloud))

    def _cloud(self, name: str) -> Cloud:
        self._enter()
        return self._retried(lambda: cloud_of(name, self.settings.clouds, ask))

    def _tokens(self, cloud: Cloud) -> Tokens:
        source = sign_in(
            self.settings.block["auth"], cloud, subscription=self.subscription, secret=self.settings.secret
        )
        return Tokens(source, self._now)

    def _enter(self) -> None:
        quieten()
        self.surroundings.use()

    def _secrets(self) -> tuple[Secret, ...]:
        """What is held just now, to keep it out of messages."""
        with self._lock:
            held = [self._made["tokens"]] if "tokens" in self._made else []
            return tuple(secret for tokens in [*held, *self._edges.values()] for secret in tokens.secrets())

    # azureml-core

    @property
    def workspace(self) -> Workspace:
        """azureml-core's workspace, opened when it is first asked for."""
        return self._once("workspace", lambda: self.call(self._open, f"opening workspace {self.name}"))

    def _open(self) -> Workspace:
        open_sdk(self.surroundings)
        from edgetrain.providers.azureml.sdk import open_workspace

        return open_workspace(self.tokens, self.cloud, self.subscription, self.group, self.name)

    def call(self, act: Callable[[], T], what: str, *, again: bool = True) -> T:
        """What `act` gives; it may call azureml-core. Any failure comes out as a provider error about `what`.

        A refused token is replaced and the call made once more. What may succeed later is tried again, with the
        waits that the service asks for, unless `again` is false: then `act` must not be repeated.
        """

        def once() -> T:
            self._enter()
            return self._renewed(lambda: self._translated(act, what))

        _ = self.tokens  # asking a declared cloud for its addresses has tries of its own
        # Inside another call it is that one's to try again: else the tries would multiply.
        return self._retried(once) if again and not self._inside.depth else once()

    def with_sdk(self, act: Callable[[Workspace], T], what: str) -> T:
        """As `call`, for what imports anything of azureml-core: it is opened before, so that the import neither
        reads the user's profile nor asks anybody."""
        workspace = self.workspace
        return self.call(lambda: act(workspace), what)

    def _translated(self, act: Callable[[], T], what: str) -> T:
        self._inside.depth += 1
        try:
            return act()
        except ProviderError:
            raise
        except Exception as error:  # the SDK raises anything, bare Exception too
            raise translate(error, what, self._secrets()) from None
        finally:
            self._inside.depth -= 1

    def _renewed(self, act: Callable[[], T]) -> T:
        """Once more with a new token, if the service refused the one we had."""
        held = self.tokens.secrets()
        try:
            return act()
        except Denied as error:
            if error.reason != SIGN_IN_REFUSED or not held or self._inside.depth:
                raise
            self.tokens.drop()
            return act()

    def _retried(self, act: Callable[[], T]) -> T:
        return retried(act, self._sleep)

    # Plain calls

    @property
    def document(self) -> Mapping[str, Any]:
        """The workspace as Resource Manager described it when it was first asked."""
        return self._once(
            "document",
            lambda: self._object(
                self.get("arm", self.scope, {"api-version": WORKSPACE_VERSION}), f"workspace {self.name}"
            ),
        )

    @property
    def endpoints(self) -> Mapping[str, str]:
        """The addresses of the workspace's services."""
        return self._once("endpoints", self._discovered)

    def _discovered(self) -> Mapping[str, str]:
        properties = self.document.get("properties")
        named = properties.get("discoveryUrl", "") if isinstance(properties, Mapping) else ""
        url = _https(self.cloud.discovery or str(named))
        what = "asking for the workspace's services"
        found = self._object(self.call(lambda: ask(url, {}), what), "the workspace's discovery document")
        return {name: _https(str(found[key])) for name, key in SERVICES.items() if isinstance(found.get(key), str)}

    @staticmethod
    def _object(document: Any, what: str) -> Mapping[str, Any]:
        if not isinstance(document, Mapping):
            raise Rejected(f"{what} is no object", reason="AnswerNotUnderstood", fix="check the cloud's endpoints")
        return document

    def base(self, service: str) -> str:
        """The address of a service: `arm`, or one of `SERVICES`."""
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
        """The items of a list, page by page (see `paging`): a GET, or a POST where `json` is given."""
        method, what = ("GET" if json is None else "POST"), f"listing of the workspace's {service}"

        def page(url: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Mapping[str, Any]:
            def act() -> Any:
                return self._web.request(method, url, query, body if method == "POST" else None, what)

            return self._object(self.call(act, what), what)

        yield from paged(page, self.base(service), self._url(service, path), dict(params or {}), json, what, most)

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
        edge = self._once(f"cloud {cloud}", lambda: self._edge(cloud))
        with self._lock:
            tokens = self._edges.setdefault(cloud, self._tokens(edge))
        self._enter()
        return self._retried(lambda: tokens.get(audience or edge.audience))

    def edge_get(self, cloud: str, path: str, params: Mapping[str, str]) -> Any:
        """The JSON of a GET at the Resource Manager of another cloud."""
        web = Web(lambda: self.edge_token(cloud), self._secrets)
        url = f"{self._once(f'cloud {cloud}', lambda: self._edge(cloud)).resource_manager}{path}"
        what = f"asking the Resource Manager of cloud {cloud}"
        return self.call(lambda: web.request("GET", url, params, None, what), what)

    def _edge(self, name: str) -> Cloud:
        found = self._cloud(name)
        if found.custom and self.settings.block["auth"]["type"] != "cli":
            with private(self.surroundings):
                register(found, folders)
        return found


class _Depth(threading.local):
    depth = 0


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
