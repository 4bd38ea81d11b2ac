"""Whether the workspace has a compute target attached, and ready to take runs."""

from __future__ import annotations

from edgetrain.core.errors import NotFound, Rejected, Transient
from edgetrain.providers.azureml.session import Session

VERSION = "2020-02-02"


def attached(session: Session, name: str) -> None:
    """Raises NotFound, Transient or Rejected with the service's reason if it is not."""
    path = f"/rp/workspaces{session.scope}/computes/{name}"
    try:
        found = session.get("api", path, {"api-version": VERSION})
    except NotFound:
        raise NotFound(
            f"target {name} is not attached to the workspace",
            reason="NotAttached",
            fix="apply: attaching it is part of the plan",
        ) from None
    state = str(((found or {}).get("properties") or {}).get("provisioningState") or "")
    if state == "Succeeded":
        return
    if state in ("Failed", "Canceled"):
        raise Rejected(
            f"attaching target {name} failed",
            reason="AttachFailed",
            fix="see the plan, which has the service's reason; then apply again",
        )
    raise Transient(f"target {name} is being attached ({state})", reason="Attaching", fix="apply again later")


def no_workspace(name: str) -> Rejected:
    """The target is of a type that needs Azure ML."""
    return Rejected(
        f"target {name} is served through Azure ML, and the workspace is not of type azureml",
        reason="WorkspaceNotServed",
        fix="set spec.workspace in edgetrain.yaml to type azureml, or use a target of type ssh",
    )
