"""What scripts say: kept at the site, and told only where the manifest lets it leave."""

from __future__ import annotations

from contextlib import suppress

from edgetrain.core.errors import NotFound
from edgetrain.core.ports import Compute
from edgetrain.reconcile.context import Context
from edgetrain.reconcile.secrets import masked

LOG_LIMIT = 32 * 2**20
# What the forge's own log gets of one run.
TOLD_LINES = 500
# The target's own notes after the script's lines name files, which the content check has not seen.
NOTE = "[edgetrain]"


def save_log(context: Context, compute: Compute, name: str, target_name: str) -> None:
    """Keep the script's output at the site, one file a run, unless it stays where it was said."""
    target = context.state.desired.targets.get(target_name)
    if target is not None and target.keeps_logs:
        return
    folder = context.site.state / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}.partial"
    size = 0
    # A run that never came to its target has said nothing.
    with partial.open("w", encoding="utf-8", errors="replace") as file, suppress(NotFound):
        for line in masked(context.site.configuration, compute.logs(name)):
            size += len(line)
            if size > LOG_LIMIT:
                file.write("[the log is longer; the rest was dropped]\n")
                break
            file.write(line if line.endswith("\n") else line + "\n")
    partial.replace(folder / f"{name}.log")


def tell_log(context: Context, compute: Compute, name: str) -> None:
    """Report what the script said; only for `logs: forge`, and after the content check let it go."""
    count = 0
    for line in masked(context.site.configuration, compute.logs(name)):
        if line.startswith(NOTE):
            continue
        count += 1
        if count > TOLD_LINES:
            context.tell("Log", name, f"[there is more; all of it: edgetrain logs {name}]")
            break
        context.tell("Log", name, line)
