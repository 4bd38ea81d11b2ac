"""Who reviewed what a commit brought to main, asked of the forge once a commit."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from edgetrain.core.errors import NotFound
from edgetrain.core.ports import CheckResult, Forge, PullRequest
from edgetrain.core.review import review_json
from edgetrain.repo.message import one_line

# Names of checks are whatever a workflow's author wrote; a record keeps so many, so long.
MAX_CHECKS = 100
MAX_NAME = 100
_GOOD = ("success", "neutral", "skipped")


class Reviews:
    """One site's look at the forge. Thread-safe; what was found stays for as long as the site is open."""

    def __init__(self, forge: Forge) -> None:
        self.forge = forge
        self._guard = threading.RLock()
        self._pulls: dict[str, PullRequest | None] = {}
        self._found: dict[str, Mapping[str, Any] | None] = {}

    def pull_of(self, commit: str, hint: str | None = None) -> PullRequest | None:
        """The merged pull request that brought the commit to the branch; None if it was pushed without one.

        `hint` is the number that the commit itself names (`#7`): the forge may not have tied the two together yet.
        Raises ProviderError if the forge can't be asked.
        """
        with self._guard:
            if commit not in self._pulls:
                self._pulls[commit] = self._look(commit, hint)
            return self._pulls[commit]

    def _look(self, commit: str, hint: str | None) -> PullRequest | None:
        found = self.forge.pull_requests_of(commit)
        if found:
            return next((pull for pull in found if pull.merged == commit), found[-1])
        number = (hint or "").removeprefix("#")
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            return None
        try:
            named = self.forge.pull_request(int(number))
        except NotFound:
            return None
        return named if named.merged == commit else None

    def of(self, commit: str, hint: str | None = None) -> Mapping[str, Any] | None:
        """What records keep of that pull request: proposer, approvals, checks. Raises ProviderError."""
        with self._guard:
            if commit not in self._found:
                pull = self.pull_of(commit, hint)
                self._found[commit] = None if pull is None else self._read(pull)
            return self._found[commit]

    def _read(self, pull: PullRequest) -> Mapping[str, Any]:
        forge = self.forge
        checks = bounded(forge.checks(pull.head))
        return review_json(forge.host, forge.repository, pull, forge.reviews(pull.number), checks)


def bounded(checks: Sequence[CheckResult]) -> list[CheckResult]:
    """The checks with names fit for a record; of too many, those that did not end well come first."""
    first = sorted(checks, key=lambda one: one.conclusion in _GOOD)[:MAX_CHECKS]
    return [CheckResult(one_line(one.name, MAX_NAME) or "check", one_line(one.conclusion, 40)) for one in first]


def approvers(review: Mapping[str, Any]) -> list[str]:
    """Those whose approvals count, as trailers name them: the address stays theirs if the login changes hands."""
    counted = (one for one in review["approvals"] if one["counts"])
    return [f"{one['login']} <{one['id']}+{one['login']}@users.noreply.{review['host']}>" for one in counted]
