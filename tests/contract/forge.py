"""What every forge must do. A provider's test class inherits this and gives the fixture `world`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import pytest

from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.ports import CheckStatus, Forge
from edgetrain.core.ports.forge import ReviewState
from edgetrain.core.review import approvals

BRANCH = "edgetrain/propose/cxr-triage-4"
HEAD = "Proposes version 4"


@dataclass
class Seen:
    """An issue as it stands there, its text without our mark."""

    open: bool
    title: str
    text: str
    labels: set[str]


class World(ABC):
    """A forge from both sides: `forge` is ours; the rest is what people and workflows do there.

    People `ada`, `grace` and `mary` can be asked for reviews, others can't. Branches begin at `main`.
    """

    forge: Forge

    @abstractmethod
    def push(self, branch: str) -> str:
        """One commit more on the branch; its id."""

    @abstractmethod
    def open(self, branch: str, by: str, title: str = "A change", *, fork: bool = False) -> int:
        """Somebody opens a pull request, of a branch here or in a fork."""

    @abstractmethod
    def open_changing(self, added: str, old: str, new: str) -> int:
        """Somebody opens a pull request that adds a file and renames another."""

    @abstractmethod
    def review(self, number: int, by: str, state: ReviewState = "approved") -> None:
        """Somebody reviews the head of now."""

    @abstractmethod
    def merge(self, number: int, by: str) -> str:
        """Somebody merges; the merge commit."""

    @abstractmethod
    def shut(self, number: int, by: str) -> None:
        """Somebody closes a pull request or an issue."""

    @abstractmethod
    def say(self, number: int, by: str, body: str) -> None:
        """Somebody comments."""

    @abstractmethod
    def report(self, title: str, by: str, body: str) -> int:
        """Somebody opens an issue."""

    @abstractmethod
    def check(self, commit: str, name: str, conclusion: str) -> None:
        """A check of the commit begins (empty conclusion) or ends."""

    @abstractmethod
    def run(self, head: str, branch: str) -> int:
        """A pull request's workflow ends well."""

    @abstractmethod
    def upload(self, run: int, name: str, data: bytes) -> None:
        """The run keeps an artifact."""

    @abstractmethod
    def comments(self, number: int) -> list[str]:
        """All comments as stored, oldest first."""

    @abstractmethod
    def issue(self, number: int) -> Seen:
        """The issue of now."""

    @abstractmethod
    def proposal(self, number: int) -> tuple[str, set[str], set[str]]:
        """Body, labels and those who are asked for a review of a pull request."""


class ForgeContract:
    """The contract of `core.ports.Forge`."""

    def test_it_says_where(self, world: World) -> None:
        owner, _, name = world.forge.repository.partition("/")
        assert owner
        assert name
        assert world.forge.host
        assert "/" not in world.forge.host

    def test_a_good_one_is_found_good(self, world: World) -> None:
        checks = world.forge.diagnose()
        assert checks
        assert not [check for check in checks if check.status is CheckStatus.FAIL]

    def test_its_settings_are_told(self, world: World) -> None:
        assert all(check.name and check.message for check in world.forge.settings())

    # Pull requests

    def test_a_pull_request_is_read(self, world: World) -> None:
        head = world.push("change")
        number = world.open("change", "ada", "Better lesions")
        pull = world.forge.pull_request(number)
        assert (pull.number, pull.title, pull.open) == (number, "Better lesions", True)
        assert (pull.head, pull.branch, pull.base) == (head, "change", "main")
        assert pull.repository == world.forge.repository
        assert (pull.author.login, pull.author.bot) == ("ada", False)
        assert (pull.merged, pull.merged_by) == (None, None)
        assert str(number) in pull.url
        newer = world.push("change")
        assert world.forge.pull_request(number).head == newer

    def test_an_absent_pull_request_is_told(self, world: World) -> None:
        with pytest.raises(NotFound):
            world.forge.pull_request(4711)

    def test_the_merge_is_told_and_found_by_its_commits(self, world: World) -> None:
        head = world.push("change")
        number = world.open("change", "ada")
        assert world.forge.pull_requests_of(head) == ()
        merged = world.merge(number, "grace")
        pull = world.forge.pull_request(number)
        assert (pull.open, pull.merged) == (False, merged)
        assert pull.merged_by is not None
        assert pull.merged_by.login == "grace"
        assert [one.number for one in world.forge.pull_requests_of(merged)] == [number]
        assert [one.number for one in world.forge.pull_requests_of(head)] == [number]
        assert world.forge.pull_requests_of(merged)[0] == pull

    def test_a_commit_of_no_pull_request_has_none(self, world: World) -> None:
        assert world.forge.pull_requests_of(world.push("main")) == ()

    def test_open_ones_are_listed_by_the_branch(self, world: World) -> None:
        numbers = {}
        for branch in (BRANCH, "edgetrain/propose/other-1", "edgetrain/data/cxr", "change"):
            world.push(branch)
            numbers[branch] = world.open(branch, "ada")
        world.open("edgetrain/propose/forked", "mallory", fork=True)
        world.shut(numbers["edgetrain/propose/other-1"], "grace")
        assert [one.number for one in world.forge.open_pull_requests("edgetrain/propose/")] == [numbers[BRANCH]]
        assert world.forge.open_pull_requests("none/") == ()

    def test_reviews_come_in_order(self, world: World) -> None:
        first = world.push("change")
        number = world.open("change", "ada")
        assert world.forge.reviews(number) == ()
        world.review(number, "grace", "changes_requested")
        second = world.push("change")
        world.review(number, "mary", "commented")
        world.review(number, "grace", "approved")
        found = world.forge.reviews(number)
        assert [(one.account.login, one.state, one.commit) for one in found] == [
            ("grace", "changes_requested", first),
            ("mary", "commented", second),
            ("grace", "approved", second),
        ]
        assert [one.time for one in found] == sorted(one.time for one in found)
        assert all(one.time.endswith("Z") for one in found)
        counted = approvals(world.forge.pull_request(number), found)
        assert [(one.account.login, one.counts) for one in counted] == [("grace", True)]

    def test_changed_files_are_told_with_their_earlier_names(self, world: World) -> None:
        number = world.open_changing(".github/a b.yml", "README.md", "docs/größe.md")
        assert world.forge.changed_files(number) == (".github/a b.yml", "README.md", "docs/größe.md")
        with pytest.raises(NotFound):
            world.forge.changed_files(4711)

    def test_a_commit_has_the_newest_result_of_each_check(self, world: World) -> None:
        commit = world.push("change")
        assert world.forge.checks(commit) == ()
        world.check(commit, "validate", "failure")
        world.check(commit, "tools", "")
        world.check(commit, "validate", "success")
        found = {one.name: one.conclusion for one in world.forge.checks(commit)}
        assert found == {"tools": "", "validate": "success"}

    # Proposals

    def test_a_proposal_is_made_once(self, world: World) -> None:
        head = world.push(BRANCH)
        made = world.forge.propose(BRANCH, HEAD, "Metrics: 0.91", ["grace"], ["edgetrain"])
        assert (made.open, made.head, made.branch, made.base) == (True, head, BRANCH, "main")
        assert (made.title, made.repository) == (HEAD, world.forge.repository)
        assert made.author.bot
        assert world.forge.propose(BRANCH, HEAD, "Metrics: 0.91", ["grace"], ["edgetrain"]) == made
        assert world.proposal(made.number) == ("Metrics: 0.91", {"edgetrain"}, {"grace"})
        assert [one.number for one in world.forge.open_pull_requests("edgetrain/")] == [made.number]

    def test_a_proposal_is_kept_up_to_date(self, world: World) -> None:
        world.push(BRANCH)
        number = world.forge.propose(BRANCH, HEAD, "Metrics: 0.91", ["grace"], ["edgetrain"]).number
        head = world.push(BRANCH)
        again = world.forge.propose(BRANCH, "Proposes version 4, newer", "Metrics: 0.92", ["mary"], ["model"])
        assert (again.number, again.title, again.head) == (number, "Proposes version 4, newer", head)
        assert world.proposal(number) == ("Metrics: 0.92", {"edgetrain", "model"}, {"grace", "mary"})

    def test_who_cant_be_asked_is_left_out(self, world: World) -> None:
        world.push(BRANCH)
        made = world.forge.propose(BRANCH, HEAD, "Metrics", ["nobody-here", "grace", "hosp/none"], [])
        assert world.proposal(made.number) == ("Metrics", set(), {"grace"})

    def test_who_reviewed_is_not_asked_again(self, world: World) -> None:
        world.push(BRANCH)
        number = world.forge.propose(BRANCH, HEAD, "Metrics", ["grace"], []).number
        world.review(number, "grace", "commented")
        world.forge.propose(BRANCH, HEAD, "Metrics", ["grace"], [])
        assert world.proposal(number)[2] == set()

    def test_closing_is_ensured(self, world: World) -> None:
        world.push(BRANCH)
        number = world.forge.propose(BRANCH, HEAD, "Metrics").number
        for _ in range(2):
            world.forge.close(number)
            assert not world.forge.pull_request(number).open
        assert world.forge.propose(BRANCH, HEAD, "Metrics").number != number

    def test_closing_leaves_a_merged_one_as_it_is(self, world: World) -> None:
        world.push("change")
        number = world.open("change", "ada")
        merged = world.merge(number, "grace")
        world.forge.close(number)
        assert world.forge.pull_request(number).merged == merged

    def test_a_branch_that_is_not_there_is_not_proposed(self, world: World) -> None:
        with pytest.raises((NotFound, Rejected)):
            world.forge.propose("edgetrain/propose/none", HEAD, "Metrics")

    # Comments

    def test_a_comment_is_kept_up_to_date(self, world: World) -> None:
        world.push("change")
        number = world.open("change", "ada")
        world.say(number, "ada", "Please look.")
        for parts in (["one"], ["one"], ["two"], ["a", "b", "c"], ["a", "B"], ["a", "B", "d"], ["z"], []):
            world.forge.comment(number, "plan", parts)
            stored = world.comments(number)
            assert stored[0] == "Please look."
            assert [text.partition("-->\n")[2] for text in stored[1:]] == parts
            assert all(text.startswith("<!-- edgetrain:plan") for text in stored[1:])

    def test_marks_are_apart(self, world: World) -> None:
        world.push("change")
        number = world.open("change", "ada")
        world.forge.comment(number, "plan", ["one"])
        world.forge.comment(number, "outcome", ["two"])
        world.forge.comment(number, "plan", [])
        (left,) = world.comments(number)
        assert left.endswith("two")

    def test_others_comments_are_never_touched(self, world: World) -> None:
        world.push("change")
        number = world.open("change", "mallory")
        forged = "<!-- edgetrain:plan -->\nAll is well."
        world.say(number, "mallory", forged)
        world.forge.comment(number, "plan", ["It is not."])
        world.forge.comment(number, "plan", [])
        assert world.comments(number) == [forged]

    def test_a_text_that_is_too_long_is_refused(self, world: World) -> None:
        world.push("change")
        number = world.open("change", "ada")
        with pytest.raises(Rejected):
            world.forge.comment(number, "plan", ["first", "x" * 65_537])
        assert world.comments(number) == []

    def test_text_stands_as_it_was_given(self, world: World) -> None:
        world.push("change")
        number = world.open("change", "ada")
        text = 'Größe ≥ 1 "quoted" \\ $(id) ${{ github.token }} %0A\n\n|a|\n|---|\n\U0001f9ea <!-- edgetrain:x -->'
        world.forge.comment(number, "plan", [text])
        assert world.comments(number)[0].partition("-->\n")[2] == text

    # Issues

    def test_one_issue_is_kept(self, world: World) -> None:
        others = world.report("Drift", "mallory", "<!-- edgetrain:drift -->\nNothing.")
        number = world.forge.issue("drift", "Drift at st-anna", "one", ["drift"])
        assert number is not None
        assert number != others
        assert world.forge.issue("drift", "Drift at st-anna", "one", ["drift"]) == number
        assert world.issue(number) == Seen(True, "Drift at st-anna", "one", {"drift"})
        assert world.forge.issue("drift", "Drift at st-anna: 2", "two") == number
        assert world.issue(number) == Seen(True, "Drift at st-anna: 2", "two", {"drift"})
        assert world.forge.issue("other", "Another", "three") not in (number, None)
        assert world.issue(others).text == "<!-- edgetrain:drift -->\nNothing."

    def test_an_issue_that_is_over_is_closed_with_a_word(self, world: World) -> None:
        assert world.forge.issue("drift", "Drift", None) is None
        number = world.forge.issue("drift", "Drift", "one")
        assert number is not None
        for _ in range(2):
            assert world.forge.issue("drift", "Drift", None) is None
            assert not world.issue(number).open
            assert len(world.comments(number)) == 1
        assert world.forge.issue("drift", "Drift", "one") == number
        assert world.issue(number).open
        world.forge.issue("drift", "Drift", None)
        assert not world.issue(number).open
        assert len(world.comments(number)) == 1

    def test_what_people_closed_stays_so_until_something_is_new(self, world: World) -> None:
        number = world.forge.issue("drift", "Drift", "one")
        assert number is not None
        world.shut(number, "grace")
        world.forge.issue("drift", "Drift", "one")
        assert not world.issue(number).open
        assert world.forge.issue("drift", "Drift", "two") == number
        assert world.issue(number) == Seen(True, "Drift", "two", set())

    # Runs of workflows

    def test_a_run_and_its_artifact_are_read(self, world: World) -> None:
        head = world.push("change")
        run = world.run(head, "change")
        found = world.forge.workflow_run(run)
        assert (found.id, found.event, found.head, found.branch) == (run, "pull_request", head, "change")
        assert (found.repository, found.conclusion) == (world.forge.repository, "success")
        assert found.workflow == ".github/workflows/pull-request.yml"
        data = b"PK" + bytes(range(256)) * 40
        world.upload(run, "other", b"PK")
        world.upload(run, "edgetrain-report", data)
        assert world.forge.artifact(run, "edgetrain-report", len(data)) == data
        with pytest.raises(Rejected):
            world.forge.artifact(run, "edgetrain-report", len(data) - 1)
        with pytest.raises(NotFound):
            world.forge.artifact(run, "none", 100)

    def test_the_pull_requests_of_a_run_are_those_at_its_head(self, world: World) -> None:
        world.push("change")
        number, other = world.open("change", by="ada"), world.open("change", by="ada", fork=True)
        pulls = {each: world.forge.pull_request(each) for each in (number, other)}
        run = world.forge.workflow_run(world.run(pulls[number].head, "change"))
        assert world.forge.pull_requests_at(run) == (pulls[number],)
        head, fork = pulls[other].head, pulls[other].repository
        assert world.forge.pull_requests_at(replace(run, head=head, repository=fork)) == (pulls[other],)
        assert world.forge.pull_requests_at(replace(run, repository="mallory/elsewhere")) == ()
        assert world.forge.pull_requests_at(replace(run, branch="another")) == ()
        world.push("change")
        assert world.forge.pull_requests_at(run) == ()

    def test_an_absent_run_is_told(self, world: World) -> None:
        with pytest.raises(NotFound):
            world.forge.workflow_run(4711)
        with pytest.raises(NotFound):
            world.forge.artifact(4711, "edgetrain-report", 100)

    # Pushing

    def test_push_settings_are_gits(self, world: World) -> None:
        assert all(isinstance(name, str) and "." in name for name in world.forge.push_settings())
