"""Clears away what runs leave on targets and in the store once they have their record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from typing import Any

from edgetrain.core.errors import ProviderError
from edgetrain.core.ports import Compute
from edgetrain.reconcile.context import Context
from edgetrain.reconcile.facts import ticket_name
from edgetrain.reconcile.observe import GIVEN_UP, RETRIES, TICKETS
from edgetrain.reconcile.scoring import tidy_scorings


def tidy(context: Context, compute: Compute, facts: Mapping[str, Any]) -> None:
    """Clear away a recorded run: its folder on the target, its ticket, its wish for a retry.

    A target that can't be reached now keeps its folder, and the ticket, until a later apply.
    """
    name, artifacts = ticket_name(facts), context.site.artifacts
    given_up = GIVEN_UP + name in dict(artifacts.claims(GIVEN_UP + name))
    try:
        if given_up:  # nobody waits for its end: it must not go on where it can be reached
            context.step("cancel")
            compute.cancel(name, "given up")
        context.step("forget")
        compute.forget(name)
    except ProviderError as error:
        if not given_up:
            context.tell("Note", name, f"it is cleared away by a later apply: {error.message}")
            return
    for left in context.scratch.glob(f"code-{name}-*"):  # of an apply that was killed at its start
        shutil.rmtree(left, ignore_errors=True)
    context.step("release-ticket")
    artifacts.release_claim(TICKETS + name)
    drop_wishes(context, {name})


def tidy_recorded(context: Context) -> None:
    """Clear what a killed apply left behind a record: tickets of runs that have theirs, wishes for them, and what
    scored their models."""
    tidy_scorings(context)
    done = {run.run_id for run in context.state.recorded.runs}
    for claim, value in list(context.site.artifacts.claims(TICKETS)):
        name = claim.removeprefix(TICKETS)
        if name in done:
            facts = json.loads(value)
            target = context.state.desired.targets.get(facts["target"])
            if target is not None and target.site == context.site.name:
                tidy(context, context.site.compute(target), facts)
            elif target is None and facts["site"] == context.site.name:
                context.step("release-ticket")
                context.site.artifacts.release_claim(claim)  # nothing is left to ask
    drop_wishes(context, done)


def drop_wishes(context: Context, done: Collection[str]) -> None:
    """Release what people asked for recorded runs: a retry, or to give one up. As long as a run's ticket is held,
    that it was given up counts."""
    artifacts = context.site.artifacts
    wishes = [claim for claims in (RETRIES, GIVEN_UP) for claim, _ in list(artifacts.claims(claims))]
    named = [claim for claim in wishes if claim.partition("/")[2] in done]
    held = {claim.removeprefix(TICKETS) for claim, _ in artifacts.claims(TICKETS)} if named else set()
    for claim in named:
        if claim.partition("/")[2] not in held:
            context.step("release-wish")
            artifacts.release_claim(claim)
