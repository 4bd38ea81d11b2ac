"""An apply in a process of its own whose clock was set back: as `killed.py`, with a first argument more."""

from __future__ import annotations

import datetime
import os
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.apply import killed

_time = time.time


class _Datetime(datetime.datetime):
    """Says what the clock that was set back says."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
        return datetime.datetime.fromtimestamp(time.time(), tz)


def main() -> None:
    """Set back the clock for edgetrain and for its git by so many seconds, then apply."""
    back = float(sys.argv.pop(1))
    time.time = lambda: _time() - back
    time.time_ns = lambda: int(time.time() * 1e9)
    for name, module in list(sys.modules.items()):
        # Libraries in C take the class apart, so it is changed for edgetrain's own modules.
        if name.startswith("edgetrain.") and vars(module).get("datetime") is datetime.datetime:
            module.datetime = _Datetime  # type: ignore[attr-defined]
    with TemporaryDirectory() as folder:
        # Settings of git in the environment are not taken over from it.
        own, date = Path(folder) / "git", f"@{int(time.time())} +0000"
        dates = f"GIT_AUTHOR_DATE='{date}' GIT_COMMITTER_DATE='{date}'"
        own.write_text(f"#!/bin/sh\n{dates} exec '{shutil.which('git')}' \"$@\"\n")
        own.chmod(0o755)
        os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
        killed.main()


if __name__ == "__main__":
    main()
