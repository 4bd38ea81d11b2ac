"""The beginning of a run: its data measured, its ticket taken, its code exported and set going on the target."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgetrain.core.digest import canonical, short
from edgetrain.core.egress import code_json
from edgetrain.core.errors import Rejected
from edgetrain.core.evaluation import held_out_digests
from edgetrain.core.kinds import ComputeTarget, Experiment
from edgetrain.core.kinds.compute import ATTACHED
from edgetrain.core.plan import Change
from edgetrain.core.ports import Compute, DataDigest, RunPhase
from edgetrain.reconcile.context import Context, manifest_digest, provenance_of
from edgetrain.reconcile.data import measure_input
from edgetrain.reconcile.facts import check_size, leaving_of, run_spec, tags_of, ticket, ticket_name
from edgetrain.reconcile.observe import TICKETS
from edgetrain.repo.export import export
from edgetrain.repo.history import last_change
from edgetrain.repo.load import MAX_LOCK_BYTES
from edgetrain.repo.tree import Tree


def measure(
    context: Context, experiment: Experiment, target: ComputeTarget, expected: Mapping[str, str | None]
) -> tuple[dict[str, DataDigest], list[str]]:
    """Digest every data input where it lies; and name those that the target holds a copy of its own of.

    Raises Rejected if one is not what the identity says.
    """
    found, staged, held_out = {}, [], held_out_digests(context.state.desired)
    for name, source in experiment.data.items():
        context.step("measure")
        context.tell("Digesting", f"{source.datastore}:{source.path}")
        seen, copied = measure_input(context.site, target, source)
        if copied:
            staged.append(name)
        if expected[name] is not None and seen.digest != expected[name]:
            wanted = short(str(expected[name]))
            raise Rejected(
                f"input {name} is {short(seen.digest)} at the site and {wanted} in the manifest",
                reason="DataDiffers",
                fix=f"propose the new data in a pull request: digest: {seen.digest}",
            )
        if seen.digest in held_out:
            raise Rejected(
                f"input {name} is data that model {held_out[seen.digest]} holds out for its evaluation",
                reason="HeldOutInTraining",
                fix="keep held-out data in a place of its own, and give the experiment the rest",
            )
        found[name] = seen
    return found, sorted(staged)


def take_ticket(
    context: Context,
    change: Change,
    experiment: Experiment,
    target: ComputeTarget,
    data: Mapping[str, DataDigest],
    staged: list[str],
) -> dict[str, Any]:
    """Claim the attempt in the artifact store; the answer is ours, or that of whoever was first."""
    state = context.state
    merged = last_change(state.git, state.commit, experiment.folder, exclude=[f"{experiment.folder}/runs"])
    facts = ticket(
        change,
        experiment,
        target,
        data,
        commit=state.commit,
        provenance=provenance_of(context, merged.commit) if merged else {},
        manifest=manifest_digest(context, experiment.document.path),
        code=code_json(state.desired.snapshots[experiment.name]),
    ) | {"staged": staged}
    context.step("ticket")
    held = context.site.artifacts.claim(TICKETS + ticket_name(facts), canonical(facts))
    mine: dict[str, Any] = json.loads(held)
    return mine


def start(context: Context, compute: Compute, experiment: Experiment, facts: Mapping[str, Any]) -> None:
    """Start the run unless it was ever started; the code is an export of the ticket's commit."""
    name = ticket_name(facts)
    if compute.inspect(name).phase is not RunPhase.ABSENT:
        context.tell("Adopted", name)
        return
    context.scratch.mkdir(parents=True, exist_ok=True)
    # A folder of this apply's own: another may be starting the same run at this moment.
    with TemporaryDirectory(prefix=f"code-{name}-", dir=context.scratch) as folder:
        code = Path(folder) / "code"
        allowed = context.site.configuration.code_size
        requirements = export_code(context.state.tree, experiment, code, allowed)
        python = facts["identityOf"]["python"]
        data = {key: entry["digest"] for key, entry in facts["inputs"].items()}
        attached = facts["targetType"] in ATTACHED
        spec = run_spec(experiment, facts["trial"], name, code, requirements, python, context.site, data, attached)
        spec = replace(spec, leaving=leaving_of(facts), tags=tags_of(facts))
        context.step("start")
        context.tell("Starting", name, f"on {facts['target']}")
        compute.start(spec)


def export_code(tree: Tree, experiment: Experiment, folder: Path, allowed: int) -> bytes:
    """Write the experiment's exact files into `folder`; answer the lock file's bytes.

    Raises Rejected if they are larger than `allowed` bytes.
    """
    check_size(export(tree, experiment.code_folder, folder), allowed)
    return tree.read(experiment.lock_path, MAX_LOCK_BYTES) if experiment.lock_path else b""
