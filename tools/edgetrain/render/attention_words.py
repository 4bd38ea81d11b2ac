"""What a pull request changes that guards the site, in words for its reviewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgetrain.render.comment_parts import bold, listed
from edgetrain.render.github import annotation
from edgetrain.render.markdown import code, prose

# So many that every section of edgetrain.yaml has room: the first of each comes first.
MOST_LISTED = 15

# What it is, and why to look.
WORDS = {
    "WorkflowsChanged": ("Workflows", "they say what runs at the site, and with which rights"),
    "CodeownersChanged": ("CODEOWNERS", "it says whose approval counts from the next pull request on"),
    "SignersChanged": ("allowed_signers", "it says whose records are believed"),
    "GithubChanged": ("Files in .github", "they steer how the repository is kept"),
    "ToolsChanged": ("Tools", "what the site's runner runs changes with the merge"),
    "AttributesChanged": ("Git's attributes or modules", "they can hide files from this page, or bring others"),
    "RecordsTouched": ("Records", "only the machine writes them, and never through a pull request of people"),
    "ConfigurationChanged": ("edgetrain.yaml", "it holds the limits, networks, secrets and who may use them"),
    "TargetChanged": ("Compute targets", "where runs go, and how they are reached"),
    "ReleaseAutomatic": ("Release without a review", "versions would be released as soon as the gates pass"),
    "GatesChanged": ("Gates", "what a model must hold to become a version"),
    "WithdrawalTakenBack": ("A withdrawal is taken back", "the version may be used again"),
    "LogsLeave": ("Logs leave the site", "what the script prints is stored outside"),
    "TrainsUnasked": ("Trainings without a review", "data that changes at the site starts them by itself"),
    "OwnersChanged": ("Owners", "who answers for it changes"),
    "ManifestRemoved": ("Manifests are removed", "what they declared is let go"),
}


def attention_line(one: Mapping[str, Any]) -> str:
    """One thing to look at, in Markdown: which files, why, and what differs."""
    title, reason = WORDS.get(one["reason"], (one["reason"], ""))
    paths = listed(one["paths"], one["count"])
    found = one["differences"]
    line = f"{bold(prose(title))} ({paths})" + (f": {prose(reason)}" if reason else "")
    told = [f"{code(d['path'])}: {code(d['actual'])} → {code(d['desired'])}" for d in found[:MOST_LISTED]]
    told += [f"and {len(found) - MOST_LISTED} more"] if len(found) > MOST_LISTED else []
    return line + "".join(f"<br>{each}" for each in told)


def attention_annotations(found: Sequence[Mapping[str, Any]]) -> str:
    """The same as warnings of a workflow, each at the first of its files."""
    lines = []
    for one in found:
        title, reason = WORDS.get(one["reason"], (one["reason"], ""))
        told = [f"{d['path']}: {d['actual']} → {d['desired']}" for d in one["differences"][:MOST_LISTED]]
        message = "\n".join([reason, *told])
        lines.append(
            annotation("warning", message, title=f"for the reviewer: {title}", file=one["paths"][0], line=1)
        )
    return "".join(f"{line}\n" for line in lines)
