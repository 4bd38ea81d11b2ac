"""Checks of targets that Azure ML reaches itself: their workspace, the key that is sent to Azure, the account."""

from __future__ import annotations

from collections.abc import Iterator

from edgetrain.core.checks.secrets import secrets_in
from edgetrain.core.codes import references as codes
from edgetrain.core.desired import Desired
from edgetrain.core.kinds import ComputeTarget
from edgetrain.core.problem import Problem, problem, shown

SENT = ("spec", "azuremlVm", "privateKey", "secret")
ACCOUNT = ("spec", "azuremlVm", "username")


def check_attached(desired: Desired, target: ComputeTarget) -> Iterator[Problem]:
    """What is wrong with one target that is to be attached; nothing for others."""
    document = target.document
    if not target.attached:
        return
    if not desired.configuration.attaches:
        has = desired.configuration.workspace["type"]
        what = f"a target of type {target.type} needs a workspace of type azureml, and edgetrain.yaml has {has}"
        yield problem(codes.WORKSPACE_ATTACHES_NOTHING, document.path, document.mark("spec", "type"), what)
    theirs, ours = target.settings.get("username"), target.ssh.get("username")
    if theirs is not None and ours is not None and theirs != ours:
        what = f'Azure ML signs in as "{shown(theirs)}", and the site\'s runner as "{shown(ours)}"'
        yield problem(codes.ACCOUNT_DIFFERS, document.path, document.mark(*ACCOUNT), what)
    for where, secret in secrets_in(document.data["spec"], ("spec",)):
        if where == SENT:
            for name, place in sorted(set(_uses(desired, secret))):
                as_ = "" if name == secret else f' as "{shown(name)}", from the same source'
                what = f'the key of secret "{shown(secret)}" is sent to Azure, and {place} uses it too{as_}'
                yield problem(codes.KEY_SENT_TO_AZURE, document.path, document.mark(*where), what)


def _uses(desired: Desired, secret: str) -> Iterator[tuple[str, str]]:
    """Name and place of each use of the secret, or of one from the same source, but for sending it to Azure."""
    declared = desired.configuration.secrets
    source = declared.get(secret, {}).get("source")
    for document in (desired.configuration.document, *(target.document for target in desired.targets.values())):
        for where, name in secrets_in(document.data["spec"], ("spec",)):
            same = name == secret or (source is not None and declared.get(name, {}).get("source") == source)
            if same and where != SENT:
                yield name, f"{'.'.join(map(str, where[:-1]))} in {document.path}"
