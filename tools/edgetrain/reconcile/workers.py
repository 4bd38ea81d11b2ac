"""Threads that ask several providers side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType


class Workers(ThreadPoolExecutor):
    """Ctrl-C is not kept waiting for answers that may never come: what has not begun is dropped, and what was asked
    is left behind. The process must then be left without joining threads, as `edgetrain.__main__` does."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        asked_to_stop = kind is not None and not issubclass(kind, Exception)
        self.shutdown(wait=not asked_to_stop, cancel_futures=kind is not None)
        return None
