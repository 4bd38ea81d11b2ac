"""Attaches compute targets to the workspace and registers datastores; lets go of what is not wanted any more."""

from __future__ import annotations

from edgetrain.core.errors import Unavailable
from edgetrain.core.plan import Change, Operation
from edgetrain.core.planner.attachments import owner_of
from edgetrain.core.planner.datastores import references
from edgetrain.core.ports import Attachments, Probed
from edgetrain.reconcile.context import Context
from edgetrain.reconcile.keys import refuse_shared
from edgetrain.reconcile.report import Result, Status


def attach(context: Context, change: Change) -> Result:
    """Do one change of an attachment. Only what carries our owner tag is touched."""
    attachments, site = context.site.attachments, context.site
    if attachments is None:
        raise Unavailable(
            "the workspace attaches no compute targets",
            reason="NotServed",
            fix="set spec.workspace in edgetrain.yaml to type azureml, or use a target of type ssh",
        )
    owner, name = owner_of(site.configuration, site.name), change.subject["name"]
    with site.artifacts.lock(change.id):
        if "datastore" in change.subject:
            said = _datastore(context, change, attachments, owner)
        elif change.operation is Operation.DETACH:
            context.step("detach")
            attachments.detach(name, owner, context.stop)
            said = "detached; the machine itself is as it was"
        else:
            target = context.state.desired.targets[change.subject["target"]]
            settings = site.target_settings(target)
            refuse_shared(context.state.desired, site, target)
            wanted = attachments.wanted(settings, target.type)
            context.step("attach")
            context.tell("Attaching", name, f"as {target.type}")
            attachments.attach(wanted, settings, owner, context.stop)
            said = "attached"
            compute = site.compute(target)
            if isinstance(compute, Probed):
                context.step("probe")
                compute.probe()
                said = "attached; a run looks at what holds scripts back there"
    return Result(change.id, change.operation.value, Status.APPLIED, change.reason, said)


def _datastore(context: Context, change: Change, attachments: Attachments, owner: str) -> str:
    if change.operation is Operation.DETACH:
        context.step("unregister")
        attachments.unregister(change.subject["name"], owner)
        return "unregistered; the data is where it was"
    site = context.site
    context.step("register")
    attachments.register(references(site.configuration, site.name).wanted[change.subject["datastore"]], owner)
    return "registered without a credential"
