"""The port of the forge: where pull requests, reviews, checks and issues live, and how records are pushed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from edgetrain.core.ports.check import Check

# GitHub lists no more of a pull request's files than these.
MOST_FILES = 3000

ReviewState = Literal["approved", "changes_requested", "commented", "dismissed"]


@dataclass(frozen=True)
class Account:
    """Who did something there. `id` is the forge's number, which stays when a login changes hands."""

    id: int
    login: str
    bot: bool = False


@dataclass(frozen=True)
class Review:
    """One review. `commit` is what was looked at; `time` in UTC, RFC 3339."""

    account: Account
    state: ReviewState
    time: str
    commit: str


@dataclass(frozen=True)
class CheckResult:
    """How one check ended on a commit: `success`, `failure`, `neutral`, ...; empty while it runs."""

    name: str
    conclusion: str


@dataclass(frozen=True)
class WorkflowRun:
    """A run of a workflow. `event` woke it, `head` is the commit it ran for, in `repository`."""

    id: int
    workflow: str
    event: str
    head: str
    branch: str
    repository: str
    conclusion: str


@dataclass(frozen=True)
class PullRequest:
    """A pull request. `head` is its newest commit, `repository` where that lies (empty if it is gone), `merged` the
    commit that brought it to the base branch (None unless merged), `merged_by` who did, and `merged_at` when (UTC,
    RFC 3339)."""

    number: int
    url: str
    title: str
    open: bool
    head: str
    branch: str
    repository: str
    base: str
    author: Account
    merged: str | None = None
    merged_by: Account | None = None
    merged_at: str | None = None

    def is_of(self, run: WorkflowRun) -> bool:
        """Whether the run was for its newest commit, of the same branch and repository."""
        return (self.head, self.repository, self.branch) == (run.head, run.repository, run.branch)


class Forge(Protocol):
    """One repository on a forge. Everything is "ensure": made again, it comes to the same.

    Raises Transient, Denied, NotFound, Conflict or Rejected. Text that is sent is given as it is to stand there:
    escaping is the caller's.
    """

    @property
    def repository(self) -> str:
        """`owner/name`."""

    @property
    def host(self) -> str:
        """The forge's host, as a person would name it: `github.com`."""

    @property
    def branch(self) -> str:
        """The configured branch: what is merged into it holds."""

    def diagnose(self) -> Sequence[Check]:
        """What must hold for everything below to work, looked at without changing anything."""

    def settings(self) -> Sequence[Check]:
        """What of the repository's settings protects the site, as far as the forge tells: the protected branch and
        who may pass it by, environments, runners, secrets' names, workflow rights."""

    def push_settings(self) -> Mapping[str, str]:
        """Settings of git for one push or fetch, with a credential made for it now; for the environment of git.
        Empty if the remote's own credential (a deploy key) is to be used."""

    def pull_request(self, number: int) -> PullRequest:
        """Raises NotFound."""

    def pull_requests_of(self, commit: str) -> Sequence[PullRequest]:
        """The merged pull requests that brought the commit to the configured branch; oldest first."""

    def open_pull_requests(self, prefix: str) -> Sequence[PullRequest]:
        """The open ones from branches of this repository whose names start with `prefix`."""

    def pull_requests_at(self, run: WorkflowRun) -> Sequence[PullRequest]:
        """The open ones to the configured branch, from wherever, whose newest commit is the one that the run was
        for, of the same branch and repository."""

    def reviews(self, number: int) -> Sequence[Review]:
        """All reviews, oldest first; those that still wait to be sent are left out."""

    def changed_files(self, number: int) -> Sequence[str]:
        """The paths that the pull request changes, with the earlier names of renamed ones, sorted. A forge need not
        tell more than MOST_FILES of them."""

    def checks(self, commit: str) -> Sequence[CheckResult]:
        """The newest result of each check of the commit, by name."""

    def propose(
        self,
        branch: str,
        title: str,
        body: str,
        reviewers: Collection[str] = (),
        labels: Collection[str] = (),
    ) -> PullRequest:
        """Ensure one open pull request from the branch (of this repository) to the configured one, with this title
        and body. `reviewers` are logins or `org/team`; who can't be asked is left out."""

    def close(self, number: int) -> None:
        """Ensure the pull request is closed; one that is merged stays so."""

    def comment(self, number: int, mark: str, parts: Sequence[str]) -> None:
        """Ensure that of our own comments on the pull request (or issue) with this `mark` there are exactly these
        parts, in order; none removes them. `mark` is a short name; others' comments are never touched."""

    def issue(self, mark: str, title: str, body: str | None, labels: Collection[str] = ()) -> int | None:
        """Ensure one open issue of ours with this mark; its number. `body` None closes it, with a word that it is
        over. One that people closed is opened again only if the body is another."""

    def workflow_run(self, run: int) -> WorkflowRun:
        """Raises NotFound."""

    def artifact(self, run: int, name: str, most: int) -> bytes:
        """The artifact's zip as it is stored. Raises NotFound; Rejected if it has more than `most` bytes."""
