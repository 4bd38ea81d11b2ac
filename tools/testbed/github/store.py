"""What the stand-in knows: accounts, tokens, repositories and events; kept as files of one folder."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from testbed.github.bare import Bare

Record = dict[str, Any]
HOOK = Path(__file__).with_name("update_hook.py")
ACTIONS_BOT = "github-actions[bot]"
FIRST_NUMBERS = {"account": 1000, "repository": 5000, "app": 300, "installation": 40000, "thing": 70000}
# GitHub's own numbers, which clients may know.
KNOWN = {ACTIONS_BOT: 41898282, "web-flow": 19864447}
ACTIONS_APP = 15368


@dataclass(frozen=True)
class Event:
    """Something that may wake workflows. `payload` is the webhook's; `wakes` is false for what a job's own token
    did, which GitHub lets wake nothing."""

    number: int
    name: str
    action: str
    repository: str
    wakes: bool
    payload: Record


def when(time: datetime) -> str:
    """As GitHub writes times."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """One data folder. Whoever reads or changes it holds `lock`; `changing` also saves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._depth = 0
        self.news = threading.Condition(self.lock)
        self.web, self.api, self.blobs = "", "", ""  # addresses; the server sets them when it listens
        self._file, self._log = folder / "state.json", folder / "events.jsonl"
        self.bares = folder / "repositories"
        self.bares.mkdir(parents=True, exist_ok=True)
        self.state: Record = {
            "next": dict(FIRST_NUMBERS),
            "accounts": {},
            "teams": {},
            "tokens": {},
            "apps": {},
            "installations": {},
            "repositories": {},
            "signing": secrets.token_hex(32),
        }
        if self._file.is_file():
            self.state = json.loads(self._file.read_text(encoding="utf-8"))
        self.events: list[Event] = []
        if self._log.is_file():
            lines = self._log.read_text(encoding="utf-8").splitlines()
            self.events = [Event(**json.loads(line)) for line in lines]
        self.account(ACTIONS_BOT, kind="Bot")
        self.account("web-flow")

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Change the state; it is saved at the end, also where the change failed half-way."""
        with self.lock:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if not self._depth:
                    self.save()

    def save(self) -> None:
        """Write the state down, whole or not at all."""
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(self.state, separators=(",", ":")), encoding="utf-8")
        new.replace(self._file)

    def now(self) -> str:
        """The time, as GitHub writes it."""
        return when(datetime.now(UTC))

    def later(self, **delta: float) -> str:
        """A time from now on."""
        return when(datetime.now(UTC) + timedelta(**delta))

    def number(self, kind: str = "thing") -> int:
        """The next number of its kind."""
        self.state["next"][kind] += 1
        made: int = self.state["next"][kind]
        return made

    # Accounts

    def account(self, login: str, kind: str = "User") -> Record:
        """The account of this login; made if there is none."""
        accounts: dict[str, Record] = self.state["accounts"]
        if login.lower() not in accounts:
            number = KNOWN.get(login) or self.number("account")
            accounts[login.lower()] = {
                "id": number,
                "login": login,
                "type": kind,
                "email": f"{number}+{login}@users.noreply.github.com",
                "created_at": self.now(),
            }
        return accounts[login.lower()]

    def known(self, login: str) -> Record | None:
        """The account, if there is one."""
        found: Record | None = self.state["accounts"].get(login.lower())
        return found

    def account_of(self, number: int) -> Record:
        """The account with this number. Raises LookupError."""
        for account in self.state["accounts"].values():
            if account["id"] == number:
                found: Record = account
                return found
        raise LookupError(f"no account {number}")

    def by_email(self, email: str) -> Record | None:
        """Whose commits have this address."""
        found = [one for one in self.state["accounts"].values() if one["email"].lower() == email.lower()]
        return found[0] if found else None

    # Repositories

    def repository(self, name: str) -> Record:
        """Raises LookupError."""
        found: Record | None = self.state["repositories"].get(name.lower())
        if found is None:
            raise LookupError(f"no repository {name}")
        return found

    def repository_of(self, number: int) -> Record | None:
        """By its number; None if it is gone."""
        found = [one for one in self.state["repositories"].values() if one["id"] == number]
        return found[0] if found else None

    def add_repository(self, name: str, *, private: bool, branch: str, fork_of: int | None = None) -> Record:
        """A new, empty one. Raises ValueError if there is one of this name."""
        owner, _, short = name.partition("/")
        if not short or name.lower() in self.state["repositories"]:
            raise ValueError(f"{name!r} is no new owner/name")
        # An owner that nobody signed up as is an organization.
        login = self.account(owner, kind="Organization")["login"]
        record: Record = {
            "id": self.number("repository"),
            "owner": login,
            "name": short,
            "full_name": f"{login}/{short}",
            "private": private,
            "default_branch": branch,
            "fork_of": fork_of,
            "created_at": self.now(),
            "pushed_at": self.now(),
            "merge_methods": ["merge", "squash"],
            "delete_branch_on_merge": False,
            "roles": {},
            "protections": {},
            "labels": {},
            "numbers": 0,
            "sent_numbers": {},
            "actions": {
                "enabled": True,
                "allowed_actions": "all",
                "sha_pinning_required": False,
                "default_workflow_permissions": "read",
                "can_approve_pull_request_reviews": False,
            },
            **{kind: {} for kind in ("issues", "comments", "reviews", "runs", "artifacts", "checks")},
            **{kind: {} for kind in ("environments", "secrets", "variables", "runners")},
        }
        self.state["repositories"][name.lower()] = record
        self.bare(record).create(branch, HOOK)
        return record

    def bare(self, repository: Mapping[str, Any]) -> Bare:
        """Its bare git repository."""
        return Bare(self.bares / f"{repository['full_name'].lower()}.git")

    # Events

    def happened(self, name: str, action: str, repository: Record, payload: Record, *, wakes: bool = True) -> None:
        """Write an event down."""
        full = {"action": action, **payload} if action else payload
        event = Event(len(self.events) + 1, name, action, repository["full_name"], wakes, full)
        self.events.append(event)
        with self._log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(event)) + "\n")
        self.news.notify_all()
