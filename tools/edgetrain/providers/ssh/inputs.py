"""Inputs on the machine: it pulls them from the blob store, or the runner sends them through where it can't."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from edgetrain.core.errors import ProviderError, Rejected, Transient
from edgetrain.core.ports import DataSource
from edgetrain.providers.ssh import streaming
from edgetrain.providers.ssh.connection import Session, retried
from edgetrain.providers.ssh.remote import Remote

STAGING = "staging.main"
PULLED = "azure-blob"
RENEWALS = 5
ACCESS = ("sas", "apiVersion", "caBundle", "proxy")
# The machine can't get at the store, while the runner perhaps can; it has tried for itself.
OUT_OF_REACH, EXPIRED = "Unreachable", "SasExpired"


class Talk:
    """A session as the streaming wants it."""

    def __init__(self, session: Session) -> None:
        self._session, self._lines = session, session.lines()

    def write(self, data: bytes) -> None:
        """Send all of it."""
        self._session.write(data)

    def read_line(self) -> bytes:
        """The next line with its end; empty when there is no more."""
        line = next(self._lines, None)
        return b"" if line is None else line + b"\n"


class Inputs:
    """The cache of inputs on one machine. `cache` is its folder there, `limit` its bytes or None."""

    def __init__(self, remote: Remote, cache: str, limit: int | None) -> None:
        self.remote, self.cache, self.limit = remote, cache, limit
        self._sent = False

    def stage(
        self,
        source: DataSource,
        single: bool,
        *,
        view: bool,
        expected: str | None = None,
        progress: streaming.Told | None = None,
    ) -> streaming.Staged:
        """Have the input there. Raises Rejected with reason DataChanged if its digest is not `expected`, and what
        else the store or the machine refuses."""
        if source.kind != PULLED and source.stream is None:
            raise Rejected(
                f"an ssh target does not serve data of kind {source.kind}",
                reason="NotServed",
                fix="choose a datastore of type azure-blob or folder",
            )
        request = {
            "cache": self.cache,
            "limit": self.limit,
            "single": single,
            "expected": expected,
            "view": view,
            "pinned": self.remote.ask("pinned"),
        }
        if source.kind == PULLED and source.access.get("sas") and not self._sent:
            try:
                return self._pull(source, request, progress)
            except ProviderError as error:
                if error.reason != OUT_OF_REACH or source.stream is None:
                    raise
                self._sent = True  # for this process: it does not get nearer
        stream = source.stream
        if stream is None:
            fix = "give the datastore a credential"
            raise Rejected("neither the machine nor the runner can read the data", reason="NotServed", fix=fix)

        def send() -> streaming.Staged:
            with self._talk() as talk:
                return streaming.feed(stream, talk, {**request, "source": _told(source)}, progress)

        return retried(send)

    def _pull(
        self, source: DataSource, request: Mapping[str, Any], progress: streaming.Told | None
    ) -> streaming.Staged:
        for left in reversed(range(RENEWALS)):
            given = source

            def pull(given: DataSource = given) -> streaming.Staged:
                with self._talk() as talk:
                    return streaming.stage(talk, {**request, "source": _told(given)}, progress)

            try:
                return retried(pull, OUT_OF_REACH, EXPIRED)
            except ProviderError as error:
                if error.reason != EXPIRED or source.renew is None or not left:
                    raise
                source = source.renew()
        raise Transient(
            "the access to the data ran out again and again",
            reason=EXPIRED,
            fix="set a longer sasLifetime on the datastore, then apply again",
        )

    def probe(self, source: DataSource, single: bool = False) -> Mapping[str, Any]:
        """Whether the machine reads the store: `version`, `skew`, `seconds`, `found`. One attempt."""
        with self._talk() as talk:
            return streaming.ask(talk, {"verb": "probe", "source": _told(source), "single": single})

    def clean(self, pinned: Sequence[str]) -> None:
        """Keep the cache under its limit."""
        if self.limit is not None:
            with self._talk() as talk:
                request = {"verb": "clean", "cache": self.cache, "limit": self.limit}
                streaming.ask(talk, {**request, "pinned": list(pinned)})

    @contextmanager
    def _talk(self) -> Iterator[Talk]:
        with self.remote.session(STAGING) as session:
            yield Talk(session)


def _told(source: DataSource) -> dict[str, Any]:
    """What the staging gets: what it is to read, and with what right."""
    facts = {"kind": source.kind, "location": source.location, "path": source.path}
    return {**facts, "access": {name: value for name, value in source.access.items() if name in ACCESS}}
