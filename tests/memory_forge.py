"""A forge in memory: the whole port, and beside it what people and workflows do on a forge.

What the port has not: `push`, `open`, `review`, `merge`, `shut`, `say`, `report`, `check`, `run`, `upload`, `fail`.
With `remote` (a bare repository) branches are read from there and `merge` makes a real commit there; without it
commits are made up. `serve` lets the table of providers give this forge.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.ports import (
    Account,
    Check,
    CheckResult,
    CheckStatus,
    PullRequest,
    Review,
    Settings,
    WorkflowRun,
)
from edgetrain.core.ports.forge import ReviewState
from edgetrain.providers.github.marks import check_length, mark_of, marked, unmarked
from edgetrain.providers.table import PROVIDERS, Row
from tests.memory_forge_parts import Comment, Details, Issue, git, made_up

OVER = "This is over: nothing of it is left."
FIRST = datetime(2026, 10, 1, 12, tzinfo=UTC)
FORGES: dict[str, MemoryForge] = {}


class MemoryForge:
    """Lives as long as its process. `remote` is a bare repository whose branches are the forge's."""

    def __init__(
        self,
        repository: str = "hosp/models",
        *,
        branch: str = "main",
        remote: Path | None = None,
        host: str = "github.com",
    ) -> None:
        self._repository, self._host = repository, host
        self.branch, self.remote = branch, remote
        self.calls: list[str] = []  # the port's methods that were called
        self.pulls: dict[int, PullRequest] = {}
        self.details: dict[int, Details] = {}
        self.issues: dict[int, Issue] = {}
        self.comments: dict[int, list[Comment]] = defaultdict(list)
        self.files: dict[int, set[str]] = defaultdict(set)  # what each pull request changes
        self.found: list[Check] = [Check("forge", CheckStatus.PASS, "it answers")]
        self.protections: list[Check] = []
        self.pushes: Mapping[str, str] = {}
        self.askable: Collection[str] | None = None  # who can be asked for a review; None: everybody
        self._reviews: dict[int, list[Review]] = defaultdict(list)
        self._checks: dict[str, dict[str, CheckResult]] = defaultdict(dict)
        self._runs: dict[int, WorkflowRun] = {}
        self._artifacts: dict[tuple[int, str], bytes] = {}
        self._branches: dict[str, str] = {}
        self._accounts: dict[str, Account] = {}
        self._faults: dict[str, list[BaseException]] = defaultdict(list)
        self._numbers, self._ids = itertools.count(1), itertools.count(1000)
        self._seconds = itertools.count()
        self.us = self.account("edgetrain-app[bot]")

    # --- what people, workflows and tests do -------------------------------------------------------------

    def account(self, login: str) -> Account:
        """The account of a login; made when first named."""
        if login not in self._accounts:
            self._accounts[login] = Account(len(self._accounts) + 1, login, login.endswith("[bot]"))
        return self._accounts[login]

    def fail(self, method: str, *errors: BaseException) -> None:
        """Let the next calls of a method of the port raise these, before they do anything."""
        self._faults[method] += errors

    def recover(self) -> None:
        """Let no call fail any more."""
        self._faults.clear()

    def push(self, branch: str, commit: str = "") -> str:
        """Move a branch (without `remote`); its new commit."""
        self._branches[branch] = commit or made_up(f"{branch} {next(self._ids)}")
        for number, pull in self.pulls.items():
            if pull.open and pull.branch == branch:
                self.pulls[number] = replace(pull, head=self._branches[branch])
        return self._branches[branch]

    def open(
        self,
        branch: str,
        by: str = "ada",
        title: str = "A change",
        body: str = "",
        *,
        repository: str = "",
        head: str = "",
    ) -> int:
        """Somebody opens a pull request; `repository` and `head` are a fork's. Its number."""
        head = head or self._head(branch) or ""
        if not head:
            raise NotFound(f"no branch {branch}", reason="NotThere")
        number = next(self._numbers)
        self.details[number] = Details(body)
        self.pulls[number] = PullRequest(
            number=number,
            url=f"https://{self._host}/{self._repository}/pull/{number}",
            title=title,
            open=True,
            head=head,
            branch=branch,
            repository=repository or self._repository,
            base=self.branch,
            author=self.account(by),
        )
        return number

    def review(
        self, number: int, by: str, state: ReviewState = "approved", *, commit: str = "", time: str = ""
    ) -> Review:
        """Somebody reviews the pull request, at its head unless another commit is said."""
        made = Review(self.account(by), state, time or self._now(), commit or self._pull(number).head)
        self._reviews[number].append(made)
        self.details[number].reviewers.discard(by)
        return made

    def merge(self, number: int, by: str = "grace", method: Literal["merge", "squash"] = "merge") -> str:
        """Somebody merges it; the commit that this makes on the branch."""
        pull = self._pull(number)
        if not pull.open:
            raise Rejected(f"pull request {number} is closed")
        if self.remote is None:
            commit = made_up(f"merge {number} {pull.head}")
            self._branches[self.branch] = commit
            brought = {pull.head, commit}
        else:
            old = git(self.remote, "rev-parse", f"refs/heads/{self.branch}")
            brought = set(git(self.remote, "rev-list", f"{old}..{pull.head}").split())
            tree = git(self.remote, "merge-tree", "--write-tree", old, pull.head).split()[0]
            parents = ["-p", old, *(["-p", pull.head] if method == "merge" else [])]
            words = f"{pull.title} (#{number})"
            commit = git(self.remote, "commit-tree", tree, *parents, "-m", words, name=by)
            git(self.remote, "update-ref", f"refs/heads/{self.branch}", commit, old)
            brought = ({*brought, commit} if method == "merge" else {commit}) - {old}
        self.details[number].commits = brought
        self.pulls[number] = replace(
            pull, open=False, merged=commit, merged_by=self.account(by), merged_at=self._now()
        )
        return commit

    def shut(self, number: int, by: str = "grace") -> None:
        """Somebody closes a pull request or an issue."""
        if number in self.issues:
            self.issues[number].open, self.issues[number].closed_by = False, by
        else:
            self.pulls[number] = replace(self._pull(number), open=False)

    def say(self, number: int, by: str, body: str) -> Comment:
        """Somebody comments on a pull request or an issue."""
        made = Comment(next(self._ids), self.account(by), body)
        self.comments[number].append(made)
        return made

    def report(self, title: str, by: str, body: str = "", labels: Collection[str] = ()) -> int:
        """Somebody opens an issue; its number."""
        number = next(self._numbers)
        self.issues[number] = Issue(number, self.account(by), title, body, set(labels))
        return number

    def check(self, commit: str, name: str, conclusion: str = "success") -> None:
        """A check of the commit ends (or begins: with an empty conclusion)."""
        self._checks[commit][name] = CheckResult(name, conclusion)

    def run(
        self,
        event: str = "pull_request",
        *,
        head: str = "0" * 40,
        workflow: str = ".github/workflows/pull-request.yml",
        branch: str = "change",
        repository: str = "",
        conclusion: str = "success",
    ) -> int:
        """A run of a workflow ends; its id."""
        number = next(self._ids)
        self._runs[number] = WorkflowRun(
            number, workflow, event, head, branch, repository or self._repository, conclusion
        )
        return number

    def upload(self, run: int, name: str, data: bytes) -> None:
        """The run keeps an artifact: the bytes of a zip."""
        self._artifacts[run, name] = data

    def texts(self, number: int, mark: str) -> list[str]:
        """Our comments with this mark as they are read, without the mark itself."""
        return [unmarked(one.body) for one in self._ours(number, mark)]

    # --- the port ----------------------------------------------------------------------------------------

    @property
    def repository(self) -> str:
        return self._repository

    @property
    def host(self) -> str:
        return self._host

    def diagnose(self) -> Sequence[Check]:
        self._called("diagnose")
        return tuple(self.found)

    def settings(self) -> Sequence[Check]:
        self._called("settings")
        return tuple(self.protections)

    def push_settings(self) -> Mapping[str, str]:
        self._called("push_settings")
        return dict(self.pushes)

    def pull_request(self, number: int) -> PullRequest:
        self._called("pull_request")
        return self._pull(number)

    def pull_requests_of(self, commit: str) -> Sequence[PullRequest]:
        self._called("pull_requests_of")
        merged = (pull for pull in self.pulls.values() if pull.merged)
        return tuple(pull for pull in merged if commit in {pull.merged, *self.details[pull.number].commits})

    def open_pull_requests(self, prefix: str) -> Sequence[PullRequest]:
        self._called("open_pull_requests")
        return tuple(
            self._pull(number)
            for number, pull in self.pulls.items()
            if pull.open and pull.repository == self._repository and pull.branch.startswith(prefix)
        )

    def pull_requests_at(self, run: WorkflowRun) -> Sequence[PullRequest]:
        self._called("pull_requests_at")
        return tuple(
            self._pull(number)
            for number, pull in self.pulls.items()
            if pull.open and pull.base == self.branch and pull.is_of(run)
        )

    def reviews(self, number: int) -> Sequence[Review]:
        self._called("reviews")
        self._pull(number)
        return tuple(sorted(self._reviews[number], key=lambda one: one.time))

    def changed_files(self, number: int) -> Sequence[str]:
        self._called("changed_files")
        self._pull(number)
        return tuple(sorted(self.files[number]))

    def checks(self, commit: str) -> Sequence[CheckResult]:
        self._called("checks")
        return tuple(self._checks[commit][name] for name in sorted(self._checks[commit]))

    def propose(
        self,
        branch: str,
        title: str,
        body: str,
        reviewers: Collection[str] = (),
        labels: Collection[str] = (),
    ) -> PullRequest:
        self._called("propose")
        check_length(body)
        open_ones = (
            number
            for number, pull in self.pulls.items()
            if pull.open and (pull.repository, pull.branch, pull.base) == (self._repository, branch, self.branch)
        )
        number = next(open_ones, None)
        if number is None:
            number = self.open(branch, self.us.login, title, body)
        self.pulls[number] = replace(self._pull(number), title=title)
        details = self.details[number]
        details.body = body
        details.labels |= set(labels)
        spoke = {self.pulls[number].author.login, *(one.account.login for one in self._reviews[number])}
        details.reviewers |= {
            one for one in reviewers if one not in spoke and (self.askable is None or one in self.askable)
        }
        return self._pull(number)

    def close(self, number: int) -> None:
        self._called("close")
        self.pulls[number] = replace(self._pull(number), open=False)

    def comment(self, number: int, mark: str, parts: Sequence[str]) -> None:
        self._called("comment")
        if number not in self.issues:
            self._pull(number)
        texts = marked(mark, parts)
        ours = self._ours(number, mark)
        for there, text in zip(ours, texts, strict=False):
            there.body = text
        for text in texts[len(ours) :]:
            self.say(number, self.us.login, text)
        surplus = {one.id for one in ours[len(texts) :]}
        self.comments[number] = [one for one in self.comments[number] if one.id not in surplus]

    def issue(self, mark: str, title: str, body: str | None, labels: Collection[str] = ()) -> int | None:
        self._called("issue")
        ours = [one for one in self.issues.values() if one.account == self.us and mark_of(one.body) == mark]
        if body is None:
            for one in ours:
                if one.open:
                    self.say(one.number, self.us.login, marked(f"{mark}-over", [OVER])[0])
                    one.open, one.closed_by = False, self.us.login
            return None
        (text,) = marked(mark, [body])
        if not ours:
            return self.report(title, self.us.login, text, labels)
        kept = next((one for one in ours if one.open), ours[-1])
        if not kept.open and kept.closed_by != self.us.login and kept.body == text:
            return kept.number
        if not kept.open:
            self.comments[kept.number] = [
                one for one in self.comments[kept.number] if one not in self._ours(kept.number, f"{mark}-over")
            ]
        kept.title, kept.body, kept.open, kept.closed_by = title, text, True, ""
        kept.labels |= set(labels)
        return kept.number

    def workflow_run(self, run: int) -> WorkflowRun:
        self._called("workflow_run")
        if run not in self._runs:
            raise NotFound(f"no run {run}", reason="NotThere")
        return self._runs[run]

    def artifact(self, run: int, name: str, most: int) -> bytes:
        self._called("artifact")
        if (run, name) not in self._artifacts:
            raise NotFound(f"run {run} has no artifact {name}", reason="NotThere")
        data = self._artifacts[run, name]
        if len(data) > most:
            raise Rejected(f"the artifact has more than {most} bytes", reason="TooLarge")
        return data

    # --- inside ------------------------------------------------------------------------------------------

    def _called(self, method: str) -> None:
        self.calls.append(method)
        if self._faults[method]:
            raise self._faults[method].pop(0)

    def _now(self) -> str:
        return (FIRST + timedelta(minutes=next(self._seconds))).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _head(self, branch: str) -> str | None:
        if self.remote is None:
            return self._branches.get(branch)
        return git(self.remote, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}") or None

    def _pull(self, number: int) -> PullRequest:
        if number not in self.pulls:
            raise NotFound(f"no pull request {number}", reason="NotThere")
        pull = self.pulls[number]
        if pull.open and self.remote is not None and pull.repository == self._repository:
            self.pulls[number] = replace(pull, head=self._head(pull.branch) or pull.head)
        return self.pulls[number]

    def _ours(self, number: int, mark: str) -> list[Comment]:
        return [one for one in self.comments[number] if one.account == self.us and mark_of(one.body) == mark]


def made(settings: Settings) -> MemoryForge:
    """The forge of the block's repository, as the table of providers makes it."""
    return FORGES[settings.block["repository"]]


def serve(monkeypatch: pytest.MonkeyPatch, forge: MemoryForge) -> MemoryForge:
    """Let the table of providers give this forge to whom declares its repository."""
    monkeypatch.setitem(FORGES, forge.repository, forge)
    monkeypatch.setitem(PROVIDERS, ("forge", "github"), Row(f"{__name__}:made"))
    return forge


def block(forge: MemoryForge, more: str = "") -> str:
    """The lines under `spec:` of `edgetrain.yaml` that declare it."""
    return f"  forge:\n    type: github\n    repository: {forge.repository}\n{more}"
