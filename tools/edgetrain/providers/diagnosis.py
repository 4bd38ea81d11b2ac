"""Checks that several providers make for `edgetrain doctor` in the same way."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from edgetrain.core.errors import ProviderError, Unavailable
from edgetrain.core.ports import ArtifactStore, Check, CheckStatus


def failed(name: str, error: ProviderError) -> Check:
    """The failed check that an error tells."""
    return Check(name, CheckStatus.FAIL, error.message, error.reason, error.fix)


def tried(name: str, message: str, attempt: Callable[[], None]) -> Check:
    """`message` if the attempt succeeds, else what went wrong."""
    try:
        attempt()
    except ProviderError as error:
        return failed(name, error)
    return Check(name, CheckStatus.PASS, message)


def diagnose_artifacts(store: ArtifactStore) -> Sequence[Check]:
    """Write, read and remove bytes; take and release a claim and a lock. Leaves nothing stored behind."""

    def store_and_remove() -> None:
        data = secrets.token_bytes(64)
        digest = store.put_bytes(data)
        try:
            with store.open(digest) as stream:
                if stream.read() != data:
                    raise Unavailable(
                        "the artifact store gave back other bytes than were stored",
                        reason="StorageFault",
                        fix="check the disk or the store's container",
                    )
        finally:
            store.delete(digest)

    def claim() -> None:
        name = f"doctor/{secrets.token_hex(16)}"
        try:
            store.claim(name, b"doctor")
        finally:
            store.release_claim(name)

    def lock() -> None:
        with store.lock("doctor"):
            pass

    return [
        tried("artifacts-write", "artifacts can be stored, read and removed", store_and_remove),
        tried("artifacts-claim", "a claim can be made and released", claim),
        tried("artifacts-lock", "a lock can be taken and released", lock),
    ]
