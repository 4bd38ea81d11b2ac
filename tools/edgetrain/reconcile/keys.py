"""Compares the key that Azure ML is to be given with those by which the site's runner reaches its own targets."""

from __future__ import annotations

from edgetrain.core.checks.secrets import secrets_in
from edgetrain.core.desired import Desired
from edgetrain.core.errors import ProviderError, Rejected
from edgetrain.core.kinds import ComputeTarget
from edgetrain.reconcile.site import Site


def refuse_shared(desired: Desired, site: Site, target: ComputeTarget) -> None:
    """Raises Rejected `KeySharedWithSite` if attaching the target would send a key that an ssh block uses.

    Here by the keys themselves: one key in two files passes what `validate` sees. A key that this runner can't
    read is none that it signs in with.
    """
    secret = target.settings.get("privateKey", {}).get("secret")
    sent = _fingerprint(site, target, secret) if secret else ""
    if not sent:
        return
    for name, other in sorted(desired.targets.items()):
        if other.site != site.name:
            continue
        for where, used in secrets_in(other.ssh, ("ssh",)):
            if _fingerprint(site, other, used) == sent:
                raise Rejected(
                    f"the key of secret {secret} would be sent to Azure, and secret {used} is the same key: "
                    f"{'.'.join(map(str, where[:-1]))} of target {name} signs in with it ({sent})",
                    reason="KeySharedWithSite",
                    fix=f"make a key for this use alone: `ssh-keygen -t ed25519 -N ''`, and put it into {secret}",
                )


def _fingerprint(site: Site, target: ComputeTarget, secret: str) -> str:
    """Of the public half; empty for what can't be read, or is no key."""
    from edgetrain.providers.azureml.attachments import fingerprint

    try:
        return fingerprint(site.target_settings(target).secret(secret).reveal())
    except ProviderError:
        return ""
