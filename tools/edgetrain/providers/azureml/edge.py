"""The cloud of a site, mostly an Azure Stack Hub, that is another than the workspace's: whether we may sign in.

Nothing that apply does hangs on it: data is read by the credential of its datastore. So what fails is a warning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgetrain.core.errors import Rejected
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.providers.azureml.session import Session
from edgetrain.providers.diagnosis import tried

# An Azure Stack Hub knows no newer one.
VERSION = "2016-06-01"


def diagnose(session: Session, cloud: str) -> Sequence[Check]:
    """Sign-in and Resource Manager of the cloud; nothing is changed there."""

    def sign_in() -> None:
        session.edge_token(cloud)

    def ask() -> None:
        found = session.edge_get(cloud, "/subscriptions", {"api-version": VERSION})
        if not isinstance(found, Mapping) or not isinstance(found.get("value"), list):
            raise Rejected(
                f"the Resource Manager of cloud {cloud} answers with something else than subscriptions",
                reason="AnswerNotUnderstood",
                fix=f"check spec.clouds.{cloud}.resourceManager in edgetrain.yaml",
            )

    checks = [tried("cloud-sign-in", f"the workspace's sign-in opens cloud {cloud}", sign_in)]
    if checks[0].status is CheckStatus.PASS:
        checks.append(tried("cloud", f"the Resource Manager of cloud {cloud} answers", ask))
    return [
        replace(check, status=CheckStatus.WARN) if check.status is CheckStatus.FAIL else check for check in checks
    ]
