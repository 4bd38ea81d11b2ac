"""What became of a merged pull request, as a comment on it: owed from before the first effect until it is made."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgetrain.core.errors import EdgetrainError, NotFound, ProviderError, Rejected, RepositoryError
from edgetrain.core.plan import Change, Operation
from edgetrain.core.ports import PullRequest
from edgetrain.core.record import Record, ReleaseRecord
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
        places: dict[str, str | None] = {}  # a sweep's trials all come from one
        for change in changes:
            commit = source_of(context.state, change, places)
            if commit is None:
                continue
            with self._guard:
                known = commit in self._sources
                self._sources[commit].add(change.id)
            if not known:
                context.step("owe")
                context.site.artifacts.claim(f"{OUTCOMES}{lane_of(change.operation).value}/{commit}", b"owed")

    def tell(self, context: Context, results: Mapping[str, Result]) -> list[str]:
        """Make the comments that are owed, from main's records and what was not done now; answer what stays owed,
        and why. What the forge refuses for good is owed no more."""
        forge = context.site.forge
        if forge is None:
            return []
        store, faults = context.site.artifacts, []
        claims: defaultdict[str, list[str]] = defaultdict(list)
        for lane in self._lane.parts:
            for name, _ in store.claims(f"{OUTCOMES}{lane.value}/"):
                claims[name.rpartition("/")[2]].append(name)
        owed: defaultdict[int, list[str]] = defaultdict(list)
        for commit in sorted({*claims, *self._sources}):
            try:
                pull = _pull_of(context, commit)
            except ProviderError as error:
                faults.append(error.message)
                continue
            if pull is not None:
                owed[pull.number].append(commit)
            else:
                _paid(context, claims[commit])
        state = _tip(context) if owed else context.state
        for number, commits in sorted(owed.items()):
            ids = {name for commit in commits for name in self._sources.get(commit, ())}
            now = [result for name, result in sorted(results.items()) if name in ids]
            text = outcome_markdown(merged(state, forge.repository, number, now))
            context.step("comment")
            try:
                forge.comment(number, MARK, [text])
                context.tell("Commented", f"#{number}", "what became of it")
            except (NotFound, Rejected) as error:
                context.tell("Note", f"#{number}", f"no comment can be made there: {error.message}")
            except ProviderError as error:
                faults.append(error.message)
                continue
            _paid(context, [name for commit in commits for name in claims[commit]])
        return faults


def _pull_of(context: Context, commit: str) -> PullRequest | None:
    """The pull request behind a commit of main; None if there is none, or main has no such commit any more."""
    try:
        hint = provenance(context.state.git, commit, trailers=False).pull_request
    except RepositoryError:
        return None
    return context.site.reviews.pull_of(commit, hint) if context.site.reviews is not None else None


def _tip(context: Context) -> State:
    """Main with all that was recorded since it was read."""
    git = context.state.git
    tip = git.tip(context.site.configuration.branch, refresh=False)
    return context.state if tip == context.state.commit else read_commit(git, tip)


def tell_outcomes(outcomes: Outcomes, context: Context, results: Mapping[str, Result]) -> None:
    """Make the comments; a fault is told and left to the next apply, for all the rest is done and recorded."""
    try:
        faults = outcomes.tell(context, results)
    except (EdgetrainError, OSError) as error:
        faults = [error.message if isinstance(error, EdgetrainError) else str(error.strerror)]
    for fault in dict.fromkeys(faults):
        context.report(Event("Note", "comments", f"{fault}; the next apply makes them"))


def _paid(context: Context, claims: Sequence[str]) -> None:
    for name in claims:
        context.step("paid")
        context.site.artifacts.release_claim(name)


def source_of(state: State, change: Change, places: dict[str, str | None]) -> str | None:
    """The commit of main that a change comes from; None if git does not tell. `places` keeps what git was asked."""
    subject = change.subject
    if change.operation in (Operation.PROPOSE, Operation.CLOSE, Operation.EVALUATE, Operation.SCORE):
        run = state.recorded.run(str(subject.get("record")))
        return _merge_commit(run.data if run else {})
    if change.operation is Operation.CANCEL:
        return _merge_commit(subject)
    if "version" in subject and change.operation is not Operation.WITHDRAW:
        version = state.desired.versions.get((subject["model"], subject["version"]))
        if version is None:
            return None
        if state.desired.models[version.model].release == "automatic":  # the machine itself brought it to main
            run = state.recorded.run(version.record)
            return _merge_commit(run.data if run else {})
        added = state.added.get(version.document.path)
        return added.commit if added is not None else None
    path, left_out = _place(change)
    if path and path not in places:
        found = last_change(state.git, state.commit, path, exclude=left_out)
        places[path] = found.commit if found is not None else None
    return places.get(path)


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
        releases=tuple(
            one
            for one in recorded.releases
            if _of(one, repository, number) or (one.data["run"] in digests and _by_itself(one))
        ),
        now=tuple(now),
    )


def _by_itself(release: ReleaseRecord) -> bool:
    """Whether the version was released because its run passed the gates, with no pull request of its own."""
    return release.event == "released" and not (release.data.get("provenance") or {}).get("review")


def _of(record: Record, repository: str, number: int) -> bool:
    """Whether the record says that the pull request is behind it."""
    review = (record.data.get("provenance") or {}).get("review") or {}
    return review.get("repository") == repository and review.get("pullRequest") == number
