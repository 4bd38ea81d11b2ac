"""Model versions in Azure ML: listed in bulk, read and written one by one by their ids.

Lists lag behind writes, a read by id does not: whatever is decided upon is read by id first.
"""

from __future__ import annotations

import io
import re
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgetrain.core.digest import canonical
from edgetrain.core.errors import Conflict, NotFound, ProviderError, Rejected
from edgetrain.providers.azureml.rules import check_entries, check_name

if TYPE_CHECKING:
    from edgetrain.providers.azureml.session import Session

VERSION_KEY = "edgetrain.version"
DIGEST_KEY = "edgetrain.digest"
CHANNEL_KEY = "edgetrain.channel."
POINTER = "edgetrain-model.json"
_SERVICE = "models"
_NUMBER = re.compile(r"[1-9]\d{0,8}")
_PAGE = 1000
# How many numbers without a version may lie between two, where a list is not yet complete: numbers of versions
# that somebody deleted are not given again.
_GAP = 3
_ATTEMPTS = 5


@dataclass(frozen=True)
class Registered:
    """One version of a model. `number` is Azure ML's own; `ours` is the version that we gave, None for a version
    that somebody else registered. Properties never change, so they tell what is ours; tags are for people."""

    name: str
    number: int
    tags: Mapping[str, str]
    properties: Mapping[str, str]

    @classmethod
    def parse(cls, document: Any) -> Registered:
        """From the service's document. Raises ProviderError."""
        try:
            return cls(
                name=str(document["name"]),
                number=int(document["version"]),
                tags={str(key): str(value or "") for key, value in (document.get("kvTags") or {}).items()},
                properties={
                    str(key): str(value or "") for key, value in (document.get("properties") or {}).items()
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise unreadable("a model") from None

    @property
    def ours(self) -> int | None:
        """Our number of it."""
        number = self.properties.get(VERSION_KEY, "")
        return int(number) if _NUMBER.fullmatch(number) else None

    @property
    def digest(self) -> str:
        """The model artifact's digest, as it was registered."""
        return self.properties.get(DIGEST_KEY, "")

    @property
    def channels(self) -> frozenset[str]:
        """The channels that its tags name."""
        return frozenset(
            key.removeprefix(CHANNEL_KEY)
            for key, value in self.tags.items()
            if key.startswith(CHANNEL_KEY) and value == "true"
        )


@dataclass(frozen=True)
class Origin:
    """The run that a model comes from; `prefix` is where its own outputs lie in Azure ML, empty if they don't."""

    run: str
    experiment: str
    prefix: str


class Models:
    """The workspace's registered models. What this process wrote is read anew, until lists show it too."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._base = f"/modelmanagement/v1.0{session.scope}"
        self._written: dict[tuple[str, int], Registered | None] = {}
        self._lock = threading.Lock()

    def every(self) -> Sequence[Registered]:
        """All versions of all models, in as many requests as there are pages."""
        return self._fresh(self._list({}), "")

    def of(self, name: str) -> Sequence[Registered]:
        """All versions of one model, lowest first, also those that lists don't show yet."""
        check_name("model", name)
        found = {version.number: version for version in self._fresh(self._list({"name": name}), name)}
        number, missing = max(found, default=0), 0
        while missing < _GAP:
            number += 1
            version = self.get(name, number)
            if version is None:
                missing += 1
            else:
                found[number], missing = version, 0
        return [found[number] for number in sorted(found)]

    def get(self, name: str, number: int) -> Registered | None:
        """One version as it is now."""
        try:
            return Registered.parse(self._session.get(_SERVICE, f"{self._base}/models/{name}:{number}"))
        except NotFound:
            return None

    def find(self, name: str, ours: int) -> Registered | None:
        """The version that we gave this number, as it is now; the first made, should there be two."""
        for version in self.of(name):
            if version.ours == ours:
                now = self.get(name, version.number)
                if now is not None:
                    return now
        return None

    def create(
        self, name: str, origin: Origin, tags: Mapping[str, str], properties: Mapping[str, str]
    ) -> Registered:
        """Register a new version with all that makes it ours in the one request that makes it."""
        check_name("model", name)
        check_entries("tags", tags)
        check_entries("properties", properties)
        prefix = origin.prefix or self._pointer(properties, origin)
        asset = self._session.post(
            _SERVICE,
            f"{self._base}/assets",
            json={"name": name, "artifacts": [{"prefix": prefix}], **({"runid": origin.run} if origin.run else {})},
        )
        if not isinstance(asset, dict) or not asset.get("id"):
            raise unreadable("an asset")
        linked = {"runId": origin.run, "experimentName": origin.experiment} if origin.run else {}
        made = Registered.parse(
            self._session.post(
                _SERVICE,
                f"{self._base}/models",
                json={
                    "name": name,
                    "url": f"aml://asset/{asset['id']}",
                    "mimeType": "application/json",
                    "unpack": False,
                    "datasets": [],
                    "kvTags": dict(tags),
                    "properties": dict(properties),
                    **linked,
                },
                # It may have been made although no answer came: whoever asked looks before it asks again.
                again=False,
            )
        )
        self._wrote(name, made.number, made)
        return made

    def retag(self, name: str, number: int, changes: Mapping[str, str | None]) -> Registered:
        """Ensure these tags, None for none. Raises NotFound.

        The service takes only the whole map, so somebody's change in between would be lost, or ours: it is read
        right before and right after.
        """
        for _ in range(_ATTEMPTS):
            version = self.get(name, number)
            if version is None:
                raise NotFound(
                    f"version {number} of model {name} is not in Azure ML any more",
                    reason="VersionNotRegistered",
                    fix="apply again: registering it is part of the plan",
                )
            self._wrote(name, number, version)
            wanted = {key: value for key, value in {**version.tags, **changes}.items() if value is not None}
            if wanted == version.tags:
                return version
            check_entries("tags", {key: value for key, value in changes.items() if value is not None}, len(wanted))
            self._session.patch(
                _SERVICE,
                f"{self._base}/models/{name}:{number}",
                json=[{"op": "replace", "path": "/kvTags", "value": wanted}],
            )
        raise Conflict(
            f"somebody changes the tags of model {name} version {number} again and again",
            reason="TagsContended",
            fix="find out who else writes these tags, then apply again",
        )

    def delete(self, name: str, number: int) -> None:
        """Ensure a version is not there."""
        self._session.delete(_SERVICE, f"{self._base}/models/{name}:{number}")
        self._wrote(name, number, None)

    def _list(self, query: Mapping[str, str]) -> list[Registered]:
        pages = self._session.pages(
            _SERVICE, f"{self._base}/models", {**query, "count": str(_PAGE), "orderBy": "CreatedAtAsc"}
        )
        return [Registered.parse(document) for document in pages]

    def _fresh(self, listed: Sequence[Registered], name: str) -> list[Registered]:
        """The list as it would be if it had not lagged behind what this process wrote."""
        found = {(version.name, version.number): version for version in listed}
        with self._lock:
            written = {key: version for key, version in self._written.items() if name in ("", key[0])}
        for key, known in written.items():
            shown = found.get(key)
            now = known if shown == known else self.get(*key)
            if now is not None:
                found[key] = now
            else:
                found.pop(key, None)
            with self._lock:
                if shown == now and self._written.get(key, known) == known:
                    self._written.pop(key, None)
        return list(found.values())

    def _wrote(self, name: str, number: int, version: Registered | None) -> None:
        with self._lock:
            self._written[name, number] = version

    def _pointer(self, properties: Mapping[str, str], origin: Origin) -> str:
        """Upload a few lines that say which bytes these are; the bytes themselves stay at the site."""
        body = canonical(
            {
                "about": "The model stays at the site where it was trained. It is found there by this digest.",
                "digest": properties.get(DIGEST_KEY, ""),
                "run": origin.run,
                "version": properties.get(VERSION_KEY, ""),
            }
        )

        def upload(workspace: Any) -> str:
            from azureml._restclient.artifacts_client import ArtifactsClient

            # Another one each time: what was begun can't be written again.
            container = f"edgetrain-{uuid.uuid4().hex[:16]}"
            client = ArtifactsClient(workspace.service_context)
            client.upload_artifact_from_stream(io.BytesIO(body), "LocalUpload", container, POINTER)
            return f"LocalUpload/{container}/{POINTER}"

        what = "uploading the model's pointer"
        try:
            return self._session.with_sdk(upload, what)
        except Conflict:
            # Nobody else has that name: the client's own try before had arrived, although it heard of a fault.
            return self._session.with_sdk(upload, what)


def duplicate(version: Registered) -> Conflict:
    """Two different artifacts under one number of ours."""
    return Conflict(
        f"model {version.name} version {version.ours} is registered with another digest",
        reason="DigestDiffers",
        fix=f"look at version {version.number} of {version.name} in Azure ML; a merged version never changes",
    )


def unreadable(what: str) -> ProviderError:
    """The service answered what can't be understood."""
    return ProviderError(
        f"Azure ML's answer for {what} can't be read",
        reason="AnswerNotUnderstood",
        fix="see whether the workspace's address is right, and the client as pinned",
    )


def check_channel(name: str) -> None:
    """Raises Rejected for a channel that makes no tag."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,80}", name):
        raise Rejected(
            f"no tag can name channel {name[:80]!r}",
            reason="NameNotAllowed",
            fix="name the channel with letters, digits, '_', '.' and '-', at most 80",
        )
