"""The settings of the stand-in's repositories, as an admin makes them on their pages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from testbed.github import protection
from testbed.github.store import Record, Store


class Settings:
    """Part of `GithubServer`."""

    store: Store

    def protect(
        self,
        repository: str,
        branch: str = "main",
        *,
        kind: Literal["classic", "ruleset"] = "classic",
        approvals: int = 1,
        bypass_apps: Collection[int] = (),
        bypass_users: Collection[str] = (),
        dismiss_stale: bool = False,
        code_owners: bool = False,
        last_push: bool = False,
        checks: Sequence[str] = (),
        check_app: int | None = None,
    ) -> None:
        """Guard a branch: nobody pushes to it but those who may pass by, nobody deletes it or forces a push.

        `classic` is a branch protection rule (git is told GH006; the API tells that it is there and its checks),
        `ruleset` a ruleset (GH013; the API tells its rules). A bypass of a classic one is for the pull
        request alone.
        `last_push`, and of a ruleset the App whose checks count (`check_app`), are told by the API, but not asked
        for at a merge.
        """
        rules = {
            "approvals": approvals,
            "bypass_apps": list(bypass_apps),
            "bypass_users": [login.lower() for login in bypass_users],
            "dismiss_stale": dismiss_stale,
            "code_owners": code_owners,
            "last_push": last_push,
            "checks": list(checks),
            "check_app": check_app,
        }
        with self.store.changing():
            protection.protect(self.store, self.store.repository(repository), branch, kind, rules)

    def unprotect(self, repository: str, branch: str = "main") -> None:
        """Guard it no more."""
        with self.store.changing():
            self.store.repository(repository)["protections"].pop(branch, None)

    def environment(
        self,
        repository: str,
        name: str,
        *,
        reviewers: Sequence[str] = (),
        prevent_self_review: bool = False,
        wait: int = 0,
        branches: Literal["", "protected", "custom"] = "",
        named: Sequence[str] = (),
        secrets: Collection[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """An environment. `reviewers` are logins or `@org/team`; `named` the branches where they are `custom`."""
        with self.store.changing():
            known = self.store.repository(repository)["environments"]
            before = known.get(name.lower(), {})
            known[name.lower()] = {
                "id": before.get("id") or self._four_numbers(),
                "name": name,
                "reviewers": list(reviewers),
                "prevent_self_review": prevent_self_review,
                "wait": wait,
                "branches": branches,
                "named": [{"id": self.store.number(), "name": one, "type": "branch"} for one in named],
                "created_at": before.get("created_at") or self.store.now(),
                "secrets": {one: self._secret(one) for one in secrets},
                "variables": {one: self._variable(one, value) for one, value in (variables or {}).items()},
            }

    def _four_numbers(self) -> int:
        """An environment's, and those of its three gates."""
        first, *_ = (self.store.number() for _ in range(4))
        return first

    def _secret(self, name: str) -> Record:
        return {"name": name, "created_at": self.store.now(), "updated_at": self.store.now()}

    def _variable(self, name: str, value: str) -> Record:
        return {**self._secret(name), "value": value}

    def secret(self, repository: str, name: str) -> None:
        """A secret of the repository; nobody can read a secret's value, so none is kept."""
        with self.store.changing():
            self.store.repository(repository)["secrets"][name] = self._secret(name)

    def variable(self, repository: str, name: str, value: str) -> None:
        """A variable of the repository."""
        with self.store.changing():
            self.store.repository(repository)["variables"][name] = self._variable(name, value)

    def runner(
        self,
        repository: str,
        name: str,
        labels: Sequence[str] = ("self-hosted",),
        *,
        online: bool = True,
        ephemeral: bool = True,
    ) -> None:
        """A self-hosted runner of the repository."""
        with self.store.changing():
            made = self._runner(name, labels, online, ephemeral)
            self.store.repository(repository)["runners"][name] = made

    def _runner(self, name: str, labels: Sequence[str], online: bool, ephemeral: bool) -> Record:
        own = ("self-hosted", "linux", "x64")
        return {
            "id": self.store.number(),
            "name": name,
            "os": "linux",
            "status": "online" if online else "offline",
            "busy": False,
            "ephemeral": ephemeral,
            "labels": [
                {
                    "id": self.store.number(),
                    "name": label,
                    "type": "read-only" if label.lower() in own else "custom",
                }
                for label in labels
            ],
        }

    def runner_group(
        self,
        repository: str,
        name: str,
        runners: Mapping[str, Sequence[str]],
        *,
        public: bool = False,
        selected: bool = True,
        workflows: Sequence[str] = (),
        online: bool = True,
    ) -> None:
        """A runner group of the organization, which serves that repository (alone, if `selected`), with its
        runners' labels by name."""
        with self.store.changing():
            record = self.store.repository(repository)
            known = self.store.state.setdefault("runner_groups", {}).setdefault(record["owner"].lower(), {})
            number = self.store.number()
            known[str(number)] = {
                "id": number,
                "name": name,
                "visibility": "selected" if selected else "all",
                "repositories": [record["id"]],
                "public": public,
                "workflows": list(workflows),
                "runners": [
                    {**self._runner(one, labels, online, True), "runner_group_id": number}
                    for one, labels in runners.items()
                ],
            }

    def actions(self, repository: str, **settings: bool | str) -> None:
        """`enabled`, `allowed_actions`, `sha_pinning_required`, `default_workflow_permissions`,
        `can_approve_pull_request_reviews`."""
        with self.store.changing():
            known = self.store.repository(repository)["actions"]
            if unknown := settings.keys() - known.keys():
                raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
            known |= settings

    def merging(
        self, repository: str, *, methods: Sequence[str] = ("merge", "squash"), delete_branch: bool = False
    ) -> None:
        """How pull requests may be merged, and whether their branch goes then."""
        with self.store.changing():
            record = self.store.repository(repository)
            record |= {"merge_methods": list(methods), "delete_branch_on_merge": delete_branch}
