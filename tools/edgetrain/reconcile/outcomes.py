"""What became of a merged pull request, as a comment on it: owed from before the first effect until it is made."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgetrain.core.errors import EdgetrainError
from edgetrain.core.plan import Change, Operation
from edgetrain.core.record import Record
from edgetrain.reconcile.context import Context
from edgetrain.reconcile.lanes import Lane, lane_of
from edgetrain.reconcile.report import Event, Result
from edgetrain.reconcile.state import State, read_commit
from edgetrain.render.outcome_comment import Merged, outcome_markdown
from edgetrain.repo.history import last_change, provenance

OUTCOMES = "outcomes/"
MARK = "outcome"


class Outcomes:
    """The comments that one apply owes. A claim in the site's store keeps each from being forgotten if this apply
    is killed, or can't reach the forge: `outcomes/<lane>/<commit that brought the change to main>`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._guard = threading.Lock()
        self._sources: defaultdict[str, set[str]] = defaultdict(set)

    def expect(self, context: Context, changes: Iterable[Change]) -> None:
        """Note whose pull requests these changes come from, before any is made."""
        if context.site.configuration.forge is None:
            return
        for change in changes:
            commit = source_of(context.state, change)
            if commit is None:
                continue
            with self._guard:
                known = commit in self._sources
                self._sources[commit].add(change.id)
            if not known:
                context.site.artifacts.claim(_claim(lane_of(change.operation), commit), b"")

    def tell(self, context: Context, results: Mapping[str, Result]) -> None:
        """Make the comments that are owed, from main's records and what was not done now. What fails stays owed."""
        forge, reviews, store = context.site.forge, context.site.reviews, context.site.artifacts
        if forge is None or reviews is None:
            return
        claims = [name for lane in self._lane.parts for name, _ in store.claims(f"{OUTCOMES}{lane.value}/")]
        owed: defaultdict[str, list[str]] = defaultdict(list)
        for name in claims:
            owed[name.rpartition("/")[2]].append(name)
        by_pull: defaultdict[int, list[str]] = defaultdict(list)
        git = context.state.git
        for commit in sorted({*owed, *self._sources}):
            hint = provenance(git, commit, trailers=False).pull_request
            pull = reviews.pull_of(commit, hint)
            if pull is not None:
                by_pull[pull.number].append(commit)
            else:
                _paid(context, owed[commit])
        if not by_pull:
            return
        tip = git.tip(context.site.configuration.branch, refresh=False)
        state = context.state if tip == context.state.commit else read_commit(git, tip)
        for number, commits in sorted(by_pull.items()):
            ids = {name for commit in commits for name in self._sources.get(commit, ())}
            now = [result for name, result in sorted(results.items()) if name in ids]
            text = outcome_markdown(merged(state, forge.repository, number, now))
            context.step("comment")
            forge.comment(number, MARK, [text])
            context.tell("Commented", f"#{number}", "what became of it")
            _paid(context, [name for commit in commits for name in owed[commit]])


def tell_outcomes(outcomes: Outcomes, context: Context, results: Mapping[str, Result]) -> None:
    """Make the comments; a fault is told and left to the next apply, for all the rest is done and recorded."""
    try:
        outcomes.tell(context, results)
    except (EdgetrainError, OSError) as error:
        told = error.message if isinstance(error, EdgetrainError) else str(error.strerror)
        context.report(Event("Note", "comments", f"{told}; the next apply makes them"))


def _claim(lane: Lane, commit: str) -> str:
    return f"{OUTCOMES}{lane.value}/{commit}"


def _paid(context: Context, claims: Sequence[str]) -> None:
    for name in claims:
        context.site.artifacts.release_claim(name)


def source_of(state: State, change: Change) -> str | None:
    """The commit of main that a change comes from; None if git does not tell."""
    subject = change.subject
    if change.operation in (Operation.PROPOSE, Operation.EVALUATE):
        run = state.recorded.run(str(subject.get("record")))
        return _merge_commit(run.data if run else {})
    if change.operation is Operation.CANCEL:
        return _merge_commit(subject)
    if "version" in subject:
        version = state.desired.versions.get((subject["model"], subject["version"]))
        added = state.added.get(version.document.path) if version is not None else None
        if change.operation is not Operation.WITHDRAW:
            return added.commit if added is not None else None
    path, left_out = _place(change)
    found = last_change(state.git, state.commit, path, exclude=left_out) if path else None
    return found.commit if found is not None else None


def _place(change: Change) -> tuple[str, list[str]]:
    """The manifest, or folder, that a change comes from, and what in it does not count."""
    subject = change.subject
    if "experiment" in subject:
        folder = f"experiments/{subject['experiment']}"
        return folder, [f"{folder}/runs"]
    if "model" in subject:
        return f"models/{subject['model']}/model.yaml", []
    if "target" in subject:
        return f"compute/{subject['target']}.yaml", []
    return ("edgetrain.yaml", []) if "datastore" in subject else ("", [])


def _merge_commit(data: Mapping[str, Any]) -> str | None:
    found = (data.get("provenance") or {}).get("mergeCommit")
    return found if isinstance(found, str) else None


def merged(state: State, repository: str, number: int, now: Sequence[Result]) -> Merged:
    """All that records say of what a pull request brought; pure."""
    recorded = state.recorded
    runs = [run for run in recorded.runs if _of(run, repository, number)]
    digests = {run.digest for run in runs}
    return Merged(
        runs=tuple((run, recorded.outcome(run).value) for run in runs),
        proposals=tuple(one for one in recorded.proposals if one.run in digests),
        releases=tuple(one for one in recorded.releases if _of(one, repository, number)),
        now=tuple(now),
    )


def _of(record: Record, repository: str, number: int) -> bool:
    """Whether the record says that the pull request is behind it."""
    review = (record.data.get("provenance") or {}).get("review") or {}
    return review.get("repository") == repository and review.get("pullRequest") == number
