"""The one event loop of this process's SSH connections, in a thread of its own, and calls into it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
_making = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def loop() -> asyncio.AbstractEventLoop:
    """The loop; its thread begins with the first call and ends with the process."""
    global _loop  # noqa: PLW0603 - one a process, by intent
    with _making:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="edgetrain-ssh", daemon=True).start()
        return _loop


def wait(work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`; it is cancelled if the caller is interrupted."""
    future = asyncio.run_coroutine_threadsafe(work, loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def later(work: Callable[[], object]) -> None:
    """Call `work` in the loop, and don't wait: for tidying up, also while the process ends."""
    loop().call_soon_threadsafe(work)
