"""Recomputes what a run record tells of the run's ticket, of what the run was given, and of what it left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, combinations
from pathlib import PurePosixPath
from typing import Any

from edgetrain import __version__
from edgetrain.core.digest import canonical, digest_bytes, digest_of, tree_digest
from edgetrain.core.egress import code_json
from edgetrain.core.kinds import Experiment
from edgetrain.core.ports import Check
from edgetrain.core.record import RunRecord
from edgetrain.core.snapshot import Snapshot
from edgetrain.reconcile.facts import given
from edgetrain.reconcile.finish import seconds_between
from edgetrain.reconcile.verify_checks import held, untold

_PLACE = "what is not there yet"
# Which inputs a target had copied is in the ticket alone; of so many inputs every choice is tried.
MOST_COPIED = 8
_FROM_RECORD = (
    *("experiment", "model", "identity", "identityOf", "attempt", "trial", "commit", "manifest", "provenance"),
    *("parameters", "inputs", "edgetrain"),
)


def facts_checks(run: RunRecord, experiment: Experiment, code: Snapshot) -> Iterator[Check]:
    """What follows from the manifest and the code of the run's commit, and from the record's own numbers."""
    manifest = given(experiment, code_json(code))
    yield held(
        "given",
        f"{run.run_id} tells of the code, waivers, logs and signature that it was given",
        _holds(lambda: _told(run, manifest)),
    )
    yield held(
        "outputs",
        f"{run.run_id} tells of its outputs as their files and its manifest have them",
        _holds(lambda: _outputs(run, manifest["outputs"])),
    )
    yield held("times", f"{run.run_id} took as long as its times say", _holds(lambda: _seconds(run.data)))
    if "ticket" not in run.data:
        return
    what = f"{run.run_id} has the ticket of what it tells of itself"
    if _holds(lambda: _ticket(run, manifest)):
        yield held("ticket", what, True)
    elif run.data.get("edgetrain") != __version__ or len(run.data["inputs"]) > MOST_COPIED:
        yield untold("ticket", f"it can't be told whether {what}", "FormUnknown", "verify with the version of then")
    else:
        yield held("ticket", what, False)


def _holds(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except (AttributeError, KeyError, TypeError, ValueError):
        return False  # a part is missing, or of another type


def _told(run: RunRecord, manifest: Mapping[str, Any]) -> bool:
    egress = run.data["egress"]
    same = egress["logs"] == manifest["logs"] and egress["waivers"] == manifest["waivers"]
    return bool(
        same
        and egress.get("code", manifest["code"]) == manifest["code"]
        and run.data.get("signature") == manifest.get("signature")
        and egress["level"] == run.data["target"]["egress"]
    )


def _outputs(run: RunRecord, declared: Mapping[str, Any]) -> bool:
    outputs, files, size = run.data["outputs"], 0, 0
    for name, output in outputs.items():
        kept = [(str(file["path"]), file["digest"]) for file in output["files"]]
        alone = len(kept) == 1 and kept[0][0] == str(PurePosixPath(output["path"]))
        digest = kept[0][1] if alone else tree_digest(kept)
        total = sum(file["size"] for file in output["files"])
        place = {key: output[key] for key in ("type", "path")}
        if (digest, total) != (output["digest"], output["size"]) or not place.items() <= declared[name].items():
            return False
        files, size = files + len(kept), size + total
    egress = run.data["egress"]
    return bool((files, size) == (egress["files"], egress["bytes"]))


def _seconds(data: Mapping[str, Any]) -> bool:
    return bool(data.get("seconds") == seconds_between(data.get("started"), data.get("ended")))


def _ticket(run: RunRecord, manifest: Mapping[str, Any]) -> bool:
    """Whether the record's `ticket` is the digest of the facts that the record and the manifest tell."""
    data, target = run.data, run.data["target"]
    facts = {
        **{key: data[key] for key in _FROM_RECORD},
        "target": target["name"],
        "targetType": target["type"],
        "site": target["site"],
        **manifest,
        **({"retry": data["retry"]} if "retry" in data else {}),
    }
    names = sorted(data["inputs"])[:MOST_COPIED]
    choices = chain.from_iterable(combinations(names, count) for count in (0, *range(len(names), 0, -1)))
    return data["ticket"] in digests_with(facts, "staged", map(list, choices))


def digests_with(facts: Mapping[str, Any], key: str, values: Iterable[Any]) -> Iterator[str]:
    """The digest of the facts with each of the values under the key; the facts are written once."""
    place = canonical({key: _PLACE})[1:-1]
    before, _, after = canonical({**facts, key: _PLACE}).partition(place)
    for value in values:
        if place in after:  # something else looks like it
            yield digest_of({**facts, key: value})
        else:
            yield digest_bytes(before + canonical({key: value})[1:-1] + after)
