"""The console script `edgetrain`, and `python -m edgetrain`."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

EXIT_INTERRUPTED = 130
# Thousands of manifests are data without circles: looking for these as often as Python does is a fifth of the time.
COLLECT_AFTER = 200_000


def main() -> None:
    """Run the verb that the command line names, and exit with its code."""
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])
    # Where Ctrl-C is ignored (in the background, below nohup) it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    try:
        from edgetrain.cli.app import app

        code = app.main(prog_name="edgetrain", standalone_mode=False)
    except KeyboardInterrupt:  # before the command line, or while it said what became of it
        code = EXIT_INTERRUPTED
    if code == EXIT_INTERRUPTED:
        _leave(code)
    gc.freeze()  # a last look for circles among all of it would free nothing that the end does not
    sys.exit(code)


def _interrupted(_: int, __: FrameType | None) -> None:
    """Ctrl-C ends what is being done in order; a second one ends the process at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _leave(code: int) -> None:
    """Without waiting for threads that still wait for an answer from somewhere."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
