"""The runners that take the site's jobs and those that read pull requests, and whom their groups let in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgetrain.core.errors import Denied, NotFound, Rejected
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.core.problem import shown
from edgetrain.providers.github import reading
from edgetrain.providers.github.client import path

if TYPE_CHECKING:
    from edgetrain.providers.github.settings import Look

PASS, WARN, FAIL = CheckStatus.PASS, CheckStatus.WARN, CheckStatus.FAIL
VARIABLE, LABELS = "EDGETRAIN_RUNNER", ("self-hosted", "edgetrain")
# What the workflows of GitHub Enterprise Server, which has no runners of its own, ask for without the variable.
READER_VARIABLE, READER_LABEL = "EDGETRAIN_PR_RUNNER", "edgetrain-pull-requests"
HOSTED = ("ubuntu-", "windows-", "macos-")
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Seen:
    """The runners that may take the repository's jobs: its own, and by the number of their group those of the
    organization. `groups` is None where the forge does not tell of them."""

    host: str
    own: Sequence[Entry]
    groups: Mapping[int, Entry] | None
    within: Mapping[int, Sequence[Entry]] = field(default_factory=dict)

    def with_labels(self, wanted: set[str]) -> list[tuple[Entry, int | None]]:
        """The runners that have all of the labels, each with its group as far as that is told."""
        found = [(one, one.get("runner_group_id")) for one in self.own]
        found += [(one, group) for group, runners in self.within.items() for one in runners]
        return [
            (one, group if isinstance(group, int) else None)
            for one, group in found
            if wanted <= reading.read(self.host, reading.runner_labels, one)
        ]


def runners(look: Look) -> Iterator[Check]:
    """Whether a runner for the site's jobs is there, and whether its group takes nobody else's."""
    declared, told = _labels(look.forge.block.get("runner")), _asked(look.variable(VARIABLE))
    wanted = declared or told or set(LABELS)
    if declared and told and declared != told:
        yield Check(
            "runner-labels",
            WARN,
            f"{VARIABLE} asks for {_said(told)}, edgetrain.yaml for {_said(declared)}",
            "LabelsDiffer",
            f"let the variable {VARIABLE} and sites.<name>.runner.labels say the same",
        )
    seen = _seen(look, wanted)
    fit = seen.with_labels(wanted)
    if not fit:
        yield _none(seen, wanted)
    else:
        online = sum(one.get("status") == "online" for one, _ in fit)
        said = _said(wanted)
        if online:
            yield Check("runners", PASS, f"{online} of {len(fit)} runners with the labels {said} are online")
        else:
            yield Check("runners", WARN, f"no runner with the labels {said} is online", "RunnerOffline", "start it")
        for group in sorted({group for _, group in fit if group is not None}):
            yield from _group(look, seen, group)
    yield from _readers(look, seen, fit)


def _seen(look: Look, wanted: set[str]) -> Seen:
    own = list(look.client.pages(look.forge.where("actions", "runners"), "see the runners", "runners"))
    owner, _, name = look.forge.repository.partition("/")
    where = path("orgs", owner, "actions", "runner-groups")
    try:
        listed = look.client.pages(where, "see the runner groups", "runner_groups", visible_to_repository=name)
        groups = {reading.read(look.client.host, lambda one: reading.count(one["id"]), one): one for one in listed}
        within = {
            group: list(
                look.client.pages(
                    path("orgs", owner, "actions", "runner-groups", group, "runners"), "see a group", "runners"
                )
            )
            for group in groups
        }
    except (Denied, NotFound, Rejected):
        return Seen(look.client.host, own, None)
    return Seen(look.client.host, own, groups, within)


def _none(seen: Seen, wanted: set[str]) -> Check:
    said = _said(wanted)
    if seen.groups is None:
        return Check(
            "runners",
            WARN,
            f"the repository has no runner of its own with the labels {said}; the organization's are not told",
            "NotTold",
            "give the App “Self-hosted runners: read” of the organization, or a token the scope admin:org; or look "
            f"at the organization's settings, Actions, Runner groups: one with {said} must serve this repository",
        )
    return Check(
        "runners",
        FAIL,
        f"no runner that serves this repository has the labels {said}",
        "NoRunner",
        f"register the site's runner with these labels, or name its own: sites.<name>.runner.labels, {VARIABLE}",
    )


def _group(look: Look, seen: Seen, number: int) -> Iterator[Check]:
    """Whom a group lets in; nothing where the forge does not tell."""
    found = (seen.groups or {}).get(number)
    if found is None:
        owner = look.forge.repository.partition("/")[0]
        try:
            found = look.client.get(path("orgs", owner, "actions", "runner-groups", number), "see a runner group")
        except (Denied, NotFound, Rejected):
            return
    name = shown(found.get("name", number), 100)
    if found.get("allows_public_repositories"):
        yield Check(
            "runner-group",
            FAIL,
            f"runner group {name} is open to public repositories",
            "OpenRunnerGroup",
            "close the group to public repositories: anybody's code could run at the site",
        )
    else:
        yield Check("runner-group", PASS, f"runner group {name} is closed to public repositories")
    if found.get("visibility") == "selected":
        yield Check("runner-group-repositories", PASS, f"runner group {name} serves chosen repositories alone")
    else:
        yield Check(
            "runner-group-repositories",
            WARN,
            f"runner group {name} serves every repository of the organization",
            "SharedRunnerGroup",
            "let the group serve this repository alone: who may push to another could run code at the site",
        )
    if found.get("restricted_to_workflows"):
        yield Check("runner-group-workflows", PASS, f"runner group {name} takes jobs of chosen workflows alone")
    else:
        yield Check(
            "runner-group-workflows",
            WARN,
            f"runner group {name} takes jobs of every workflow, those that a branch brings too",
            "AnyWorkflow",
            "restrict the group to the workflows of the protected branch: the checklist has the command",
        )


def _readers(look: Look, seen: Seen, site: Sequence[tuple[Entry, int | None]]) -> Iterator[Check]:
    """Whether pull requests are read apart from the site, where that is not on GitHub's own runners."""
    named = look.variable(READER_VARIABLE)
    on_github = look.forge.host == "github.com"
    wanted = _labels(named or ("" if on_github else READER_LABEL))
    if not wanted or (on_github and next(iter(wanted)).startswith(HOSTED)):
        return
    fit, said = seen.with_labels(wanted), _said(wanted)
    both = {str(one.get("id")) for one, _ in fit} & {str(one.get("id")) for one, _ in site}
    shared = {group for _, group in fit} & {group for _, group in site} - {None}
    if both or shared:
        yield Check(
            "pull-request-runner",
            FAIL,
            f"pull requests ({said}) may be read on the site's runner, or by one of its group",
            "ReadsAtTheSite",
            "read pull requests on a runner in a group of its own, on a machine without a route to the site",
        )
    elif fit:
        yield Check("pull-request-runner", PASS, f"pull requests are read by runners of their own ({said})")
    elif seen.groups is not None:
        yield Check(
            "pull-request-runner",
            FAIL,
            f"no runner reads pull requests: none has the label {said}",
            "NoReader",
            f"register one in a group without a route to the site, or name its label in {READER_VARIABLE}",
        )


def _asked(text: str | None) -> set[str]:
    """The labels in a variable's JSON, as workflows read it; empty if it is none."""
    try:
        return _labels(json.loads(text or "null"))
    except ValueError:
        return set()


def _labels(value: object) -> set[str]:
    labels = [value] if isinstance(value, str) else value
    if isinstance(labels, list) and labels and all(isinstance(one, str) and one for one in labels):
        return {shown(one.lower(), 100) for one in labels}
    return set()


def _said(labels: set[str]) -> str:
    return ", ".join(sorted(labels))
