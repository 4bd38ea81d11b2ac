"""What people do in the stand-in's repositories: branches, commits, pull requests, reviews, issues, comments."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from testbed.github import payloads, pulls, shapes_pulls
from testbed.github.access import Actor
from testbed.github.bare import NOTHING, git_person
from testbed.github.store import Record, Store


class Work:
    """Part of `GithubServer`."""

    store: Store

    def create_repository(
        self,
        name: str,
        *,
        private: bool = True,
        branch: str = "main",
        files: Mapping[str, str | bytes] | None = None,
    ) -> str:
        """A new repository, empty or with a first commit of `files`; its address for git."""
        with self.store.changing():
            record = self.store.add_repository(name, private=private, branch=branch)
            if files is not None:
                self.commit(name, branch, files, "Begin", by=record["owner"])
        return self.remote(name)

    def fork(self, repository: str, owner: str) -> str:
        """A fork of it: its name."""
        with self.store.changing():
            parent = self.store.repository(repository)
            name = f"{owner}/{parent['name']}"
            self.store.account(owner)
            record = self.store.add_repository(
                name, private=parent["private"], branch=parent["default_branch"], fork_of=parent["id"]
            )
            self.store.bare(record).git(
                "fetch", "--quiet", str(self.store.bare(parent).path), "+refs/heads/*:refs/heads/*"
            )
            return name

    def delete_repository(self, repository: str) -> None:
        """Delete it, as a contributor deletes a fork; pull requests from it stay."""
        with self.store.changing():
            record = self.store.state["repositories"].pop(repository.lower())
            shutil.rmtree(self.store.bare(record).path)

    def remote(self, repository: str) -> str:
        """The address for git, without a credential."""
        return f"{self.store.web}/{self.store.repository(repository)['full_name']}.git"

    def git_folder(self, repository: str) -> Path:
        """The bare repository itself, to read."""
        return self.store.bare(self.store.repository(repository)).path

    def branch(self, repository: str, name: str = "main") -> str | None:
        """The newest commit of a branch; None if there is no such branch."""
        with self.store.lock:
            return self.store.bare(self.store.repository(repository)).branch(name)

    def commit(
        self,
        repository: str,
        branch: str,
        files: Mapping[str, str | bytes | None],
        message: str = "Change",
        *,
        by: str,
        start: str = "main",
    ) -> str:
        """A commit as the editor on the page makes it: files put in, or (None) taken out; on the branch, or on a
        new one from `start`. Protection is not asked. The new commit."""
        with self.store.changing():
            record, actor = self.store.repository(repository), self._person(by)
            bare = self.store.bare(record)
            tip = bare.branch(branch)
            parent = tip or (bare.branch(start) if branch != start else None)
            tree = bare.tree_with(parent, files)
            person = git_person(self.store.account(by))
            made = bare.commit_tree(tree, [parent] if parent else [], message, person, person)
            bare.set_ref(f"refs/heads/{branch}", made)
            pulls.moved(self.store, record, actor, f"refs/heads/{branch}", tip or NOTHING, made, wakes=True)
            return made

    def delete_branch(self, repository: str, branch: str, *, by: str) -> None:
        """As the button does; open pull requests from it are closed."""
        with self.store.changing():
            pulls.delete_branch(self.store, self.store.repository(repository), self._person(by), branch)

    # Pull requests

    def open_pull(
        self,
        repository: str,
        head: str,
        *,
        by: str,
        title: str = "Change",
        body: str = "",
        base: str = "main",
        draft: bool = False,
    ) -> int:
        """A new pull request from `branch` or `owner:branch` (of a fork); its number. Raises pulls.Invalid."""
        with self.store.changing():
            record = self.store.repository(repository)
            issue = pulls.open_pull(
                self.store, record, self._person(by), title=title, head=head, base=base, body=body, draft=draft
            )
            number: int = issue["number"]
            return number

    def pull(self, repository: str, number: int) -> Record:
        """The pull request as the REST API shows it."""
        with self.store.lock:
            record = self.store.repository(repository)
            return shapes_pulls.pull(self.store, record, self._issue(record, number), full=True)

    def review(
        self,
        repository: str,
        number: int,
        *,
        by: str,
        state: Literal["approved", "changes_requested", "commented", "pending"] = "approved",
        body: str = "",
        commit: str | None = None,
    ) -> int:
        """A review of the head as it is now, or of `commit`; its number. Raises pulls.Invalid for one's own."""
        with self.store.changing():
            record = self.store.repository(repository)
            made = pulls.review(
                self.store,
                record,
                self._issue(record, number),
                self._person(by),
                pulls.STATES[state],
                body,
                commit,
            )
            return int(made["id"])

    def dismiss(self, repository: str, review: int) -> None:
        """Dismiss a review."""
        with self.store.changing():
            self.store.repository(repository)["reviews"][str(review)]["state"] = "DISMISSED"

    def merge(
        self,
        repository: str,
        number: int,
        *,
        by: str,
        method: Literal["merge", "squash"] = "merge",
        admin: bool = False,
    ) -> str:
        """Merge as the button does; the new commit. `admin`: by, an admin, passes the protection. Raises
        pulls.NotMergeable."""
        with self.store.changing():
            record = self.store.repository(repository)
            issue = self._issue(record, number)
            return pulls.merge(self.store, record, issue, self._person(by), method=method, admin=admin)

    def close_issue(self, repository: str, number: int, *, by: str) -> None:
        """Close an issue or a pull request."""
        with self.store.changing():
            record = self.store.repository(repository)
            pulls.close(self.store, record, self._issue(record, number), self._person(by))

    def reopen_issue(self, repository: str, number: int, *, by: str) -> None:
        """Open an issue or a pull request again."""
        with self.store.changing():
            record = self.store.repository(repository)
            pulls.reopen(self.store, record, self._issue(record, number), self._person(by))

    def open_issue(self, repository: str, title: str, body: str = "", *, by: str) -> int:
        """A new issue; its number."""
        with self.store.changing():
            record = self.store.repository(repository)
            actor = self._person(by)
            issue = pulls.new_issue(self.store, record, actor, title, body)
            payloads.issue_happened(self.store, record, issue, "opened", actor)
            return int(issue["number"])

    def say(self, repository: str, number: int, body: str, *, by: str) -> int:
        """A comment on an issue or a pull request; its number."""
        with self.store.changing():
            record = self.store.repository(repository)
            issue = self._issue(record, number)
            return int(pulls.add_comment(self.store, record, issue, self._person(by), body)["id"])

    def issues(self, repository: str) -> list[Record]:
        """All issues and pull requests, as the REST API shows them."""
        with self.store.lock:
            record = self.store.repository(repository)
            return [shapes_pulls.issue(self.store, record, one) for one in record["issues"].values()]

    def comments(self, repository: str, number: int) -> list[Record]:
        """The comments, oldest first, as the REST API shows them."""
        with self.store.lock:
            record = self.store.repository(repository)
            found = [one for one in record["comments"].values() if one["issue"] == number]
            return [shapes_pulls.comment(self.store, record, one) for one in found]

    def _person(self, login: str) -> Actor:
        account = self.store.account(login)
        return Actor("user", account["id"], account["login"])

    @staticmethod
    def _issue(record: Record, number: int) -> Record:
        found: Record | None = record["issues"].get(str(number))
        if found is None:
            raise LookupError(f"no #{number} in {record['full_name']}")
        return found
