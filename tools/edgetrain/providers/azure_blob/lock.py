"""A lock that is a blob's lease: renewed while it is held, free by itself when its holder is gone."""

from __future__ import annotations

import io
import threading
import time
from types import TracebackType

from edgetrain.core.errors import Conflict, NotFound, ProviderError
from edgetrain.core.problem import shown
from edgetrain.providers.azure_blob.client import Container, Lease

# Below the port's usual wait of 60 s, so that who waits for a crashed holder's lock gets it.
LEASE_SECONDS = 45
_POLL = 2.0


class LeaseLock:
    """Holds the lease of the blob `place` for the block inside `with`; `name` is for messages.

    Entering raises Conflict (Locked) after `timeout` seconds. Leaving raises Conflict (LockLost) if the lease
    was lost meanwhile, unless the block itself failed.
    """

    def __init__(self, container: Container, place: str, name: str, timeout: float, seconds: int) -> None:
        self._container = container
        self._place = place
        self._name = name
        self._timeout = timeout
        self._seconds = seconds
        self._ending = threading.Event()
        self._lost = False
        self._renewed = 0.0

    def __enter__(self) -> None:
        self._lease = self._take()
        self._thread = threading.Thread(target=self._keep, name="edgetrain-lock", daemon=True)
        self._thread.start()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()
        lost = self._lost or self._expired()
        try:
            self._lease.release()
        except (Conflict, NotFound):
            lost = True
        except ProviderError:
            pass  # unreachable just now: the lease ends by itself
        if lost and error is None:
            raise Conflict(
                f"the lock of {shown(self._name)} was lost while it was held",
                reason="LockLost",
                fix="check the way to the blob store, then apply again",
            )

    def _take(self) -> Lease:
        deadline = time.monotonic() + self._timeout
        pause = 0.1
        while True:
            self._renewed = time.monotonic()
            try:
                return self._container.lease(self._place, self._seconds)
            except NotFound as error:
                if error.reason == "ContainerMissing":
                    raise
                self._container.create(self._place, io.BytesIO(), 0)
                continue
            except Conflict as error:
                if not error.reason.startswith("Lease"):
                    raise
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Conflict(
                        f"another process holds {shown(self._name)}",
                        reason="Locked",
                        fix="wait for the other apply to end, then apply again",
                    ) from None
            time.sleep(min(pause, left))
            pause = min(2 * pause, _POLL)

    def _keep(self) -> None:
        while not self._ending.wait(self._seconds / 3):
            begun = time.monotonic()
            try:
                self._lease.renew()
            except (Conflict, NotFound):
                self._lost = True
                return
            except ProviderError:
                if self._expired():
                    self._lost = True
                    return
                continue
            self._renewed = begun

    def _expired(self) -> bool:
        return time.monotonic() - self._renewed > self._seconds
