"""Plans which datastores the workspace knows of: where they lie, never a credential to read them with.

Only `azure-blob` stores can be told to Azure ML, and of these only what it can address by account and domain.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgetrain.core.codes import policy
from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_of
from edgetrain.core.kinds import Configuration
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Change, Difference, Effect, Operation
from edgetrain.core.problem import Code, Problem, problem, shown

if TYPE_CHECKING:
    from edgetrain.core.ports import Attachment, WantedAttachment

TYPE = "azure-blob"
# `https://<account>.blob.<suffix>`: the only form in which Azure ML's client makes an address.
_ENDPOINT = re.compile(r"https://([a-z0-9]{3,24})\.blob\.([a-z0-9-]+(?:\.[a-z0-9-]+)*)(?::443)?/?", re.IGNORECASE)
_TOLD = ("account", "container", "endpoint")


@dataclass(frozen=True)
class References:
    """What a site's declarations ask for, by datastore; `unfit` are those that Azure ML can't address."""

    wanted: Mapping[str, WantedAttachment] = field(default_factory=dict)
    unfit: tuple[str, ...] = ()


def references(configuration: Configuration, site: str) -> References:
    """What the workspace is to know of the site's datastores."""
    wanted: dict[str, WantedAttachment] = {}
    unfit = []
    declared = configuration.sites[site].datastores if site in configuration.sites else {}
    for name, block in sorted(declared.items()):
        if not configuration.attaches or block["type"] != TYPE or block.get("azureml") == "none":
            continue
        if found := _ENDPOINT.fullmatch(block["endpoint"]):
            fields = {
                "account": found[1].lower(),
                "container": block["container"],
                "endpoint": found[2].lower(),
                "protocol": "https",
                "credential": "none",
            }
            from edgetrain.core.ports import WantedAttachment  # here: most sites have none

            wanted[name] = WantedAttachment(
                name.replace("-", "_"), TYPE, fields, digest_of({"type": TYPE, "fields": fields})
            )
        else:
            unfit.append(name)
    return References(wanted, tuple(unfit))


def datastore_id(name: str) -> str:
    """`attachment/datastore/<name in the workspace>`"""
    return f"attachment/datastore/{name}"


def plan_datastores(desired: Desired, observed: Observation | None) -> tuple[list[Change], list[Problem]]:
    """Changes, and what is refused. Offline, what happens to each site's if the workspace does not know it."""
    configuration = desired.configuration
    every = {site: references(configuration, site).wanted for site in configuration.sites}
    count = Counter(want.name for wanted in every.values() for want in wanted.values())
    shared = {name for name, sites in count.items() if sites > 1}
    seen = observed.attachments if observed is not None else None
    if observed is not None and seen is None:
        return [], []
    changes: list[Change] = []
    problems: list[Problem] = []
    for site, wanted in every.items():
        if seen is not None and site != seen.site:
            continue
        for name, want in wanted.items():
            if want.name in shared:
                what = f"more than one datastore would be {shown(want.name)!r} in the workspace"
                problems.append(_refusal(policy.DATASTORES_COLLIDE, desired, site, name, what))
            elif seen is None:
                changes.append(_register(site, name, want, Effect.CREATE, "IfNotAttached", (), conditional=True))
            elif held := seen.datastores.get(want.name):
                if held.owner != seen.owner:
                    whose = f"its owner tag is {shown(held.owner)}" if held.owner else "it carries no owner tag"
                    what = f"the workspace has a datastore {shown(want.name)!r} that is not ours: {whose}"
                    problems.append(_refusal(policy.DATASTORE_HELD, desired, site, name, what))
                else:
                    changes += _mended(site, name, want, held)
            else:
                fields = tuple(Difference(key, None, want.fields[key]) for key in _TOLD)
                changes.append(_register(site, name, want, Effect.CREATE, "NotAttached", fields))
    if seen is not None:
        kept = {want.name for want in every.get(seen.site, {}).values()}
        ours = sorted(name for name, held in seen.datastores.items() if held.owner == seen.owner)
        changes += [_unregister(name) for name in ours if name not in kept]
    return changes, problems


def datastore_notes(desired: Desired, observed: Observation | None) -> Iterator[tuple[str, str]]:
    """The datastores that stay untold because Azure ML has no words for where they are, in one line."""
    sites = list(desired.configuration.sites)
    if observed is not None:
        sites = [observed.attachments.site] if observed.attachments is not None else []
    unfit = sorted({name for site in sites for name in references(desired.configuration, site).unfit})
    if unfit:
        what = "not registered in Azure ML, whose datastores are at https://<account>.blob.<suffix> only"
        yield "datastores", f"{what}: {shown(', '.join(unfit), 500)}"


def _mended(site: str, name: str, want: WantedAttachment, held: Attachment) -> Iterator[Change]:
    differences = tuple(Difference(key, there, wish) for key, (wish, there) in sorted(want.drift(held).items()))
    if differences:
        reason = "AttachmentDrifted" if held.digest == want.digest else "DatastoreChanged"
        yield _register(site, name, want, Effect.UPDATE, reason, differences)


def _register(
    site: str,
    name: str,
    want: WantedAttachment,
    effect: Effect,
    reason: str,
    differences: tuple[Difference, ...],
    conditional: bool = False,
) -> Change:
    subject = {
        "datastore": name,
        "site": site,
        "name": want.name,
        "digest": want.digest,
        "tells": {key: want.fields[key] for key in _TOLD},
    }
    id_ = datastore_id(want.name)
    return Change(id_, Operation.ATTACH, effect, reason, differences, subject, conditional=conditional)


def _unregister(name: str) -> Change:
    differences = (Difference("attached", "datastore", None),)
    subject = {"datastore": name, "name": name}
    return Change(datastore_id(name), Operation.DETACH, Effect.DELETE, "DatastoreRemoved", differences, subject)


def _refusal(code: Code, desired: Desired, site: str, name: str, what: str) -> Problem:
    document = desired.configuration.document
    return problem(code, document.path, document.mark("spec", "sites", site, "datastores", name), what)
