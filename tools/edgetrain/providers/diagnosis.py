"""Checks that several providers make for `edgetrain doctor` in the same way."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from edgetrain.core.errors import ProviderError, Unavailable
from edgetrain.core.ports import ArtifactStore, Check, CheckStatus, TrackedRun, Workspace


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


REHEARSAL = "edgetrain-doctor-live"
_DIGEST = "sha256:" + "0" * 64


def rehearsed(workspace: Workspace, undo: Callable[[str, str], None]) -> Sequence[Check]:
    """Track a tiny run, register and alias a model that is none, see both, and take them away by `undo`, which
    gets the name of experiment and model, and the workspace's id of the run."""
    run_id = ""

    def track() -> None:
        nonlocal run_id
        run = TrackedRun(
            id=f"{REHEARSAL}-1",
            experiment=REHEARSAL,
            outcome="candidate",
            parameters={"rehearsal": "true"},
            metrics={"one": 1.0},
            history=[],
            tags={"edgetrain.doctor": "live"},
            started=None,
            ended=None,
        )
        run_id = workspace.track(run)

    def register() -> None:
        workspace.register(REHEARSAL, 1, run_id, _DIGEST, {"edgetrain.doctor": "live"})
        workspace.alias(REHEARSAL, "rehearsal", 1)
        seen = workspace.observe([REHEARSAL]).get(REHEARSAL)
        if seen is None or 1 not in seen.versions or seen.channels.get("rehearsal") != 1:
            raise Unavailable(
                "the workspace does not show what was registered a moment ago",
                reason="NotShown",
                fix="try again in a minute: some workspaces show what is new late",
            )
        workspace.alias(REHEARSAL, "rehearsal", None)

    return [
        tried("live-run", "a run with a metric can be tracked", track),
        tried("live-model", "a model can be registered, found and aliased", register),
        tried("live-undo", "both can be taken away again", lambda: undo(REHEARSAL, run_id)),
    ]


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
