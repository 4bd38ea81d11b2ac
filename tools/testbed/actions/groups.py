"""Concurrency groups: one at a time, and the newest that waits takes the place of an older one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(eq=False)
class Place:
    """Somebody's place in a group. `cancel` ends what `owner` does in it."""

    owner: object
    cancel: Callable[[], None]
    replaced: bool = False


@dataclass
class _Group:
    running: Place | None = None
    waiting: Place | None = None


@dataclass
class Groups:
    """All groups of a repository."""

    _groups: dict[str, _Group] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def enter(self, name: str, owner: object, cancel: Callable[[], None], cancels: bool) -> Place | None:
        """Wait for a place; None if somebody newer took it. `cancels`: end what runs instead of waiting for it."""
        mine = Place(owner, cancel)
        with self._changed:
            group = self._groups.setdefault(name, _Group())
            if group.waiting is not None:
                group.waiting.replaced = True
            group.waiting = mine
            running = group.running if cancels else None
            self._changed.notify_all()
        if running is not None:
            running.cancel()
        with self._changed:
            self._changed.wait_for(lambda: mine.replaced or group.running is None)
            if mine.replaced:
                return None
            group.running, group.waiting = mine, None
            return mine

    def leave(self, name: str, place: Place) -> None:
        """Give the place up."""
        with self._changed:
            if self._groups[name].running is place:
                self._groups[name].running = None
            self._changed.notify_all()

    def withdraw(self, owner: object) -> None:
        """The owner waits no longer."""
        with self._changed:
            for group in self._groups.values():
                if group.waiting is not None and group.waiting.owner is owner:
                    group.waiting.replaced, group.waiting = True, None
            self._changed.notify_all()

    def waiting(self, name: str) -> object:
        """Who waits for a place; None if nobody does."""
        with self._changed:
            waiting = self._groups[name].waiting
            return waiting.owner if waiting else None
