"""Runs a command for as long as its owner lives: standard input is held open by the owner and never written to.

When the owner ends, however it ends (SIGKILL too), the kernel closes the pipe; the command then gets SIGTERM, and
SIGKILL if that does not end it. So no part of a testbed outlives the test that started it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

PATIENCE = 10.0  # seconds between SIGTERM and SIGKILL


def main(command: list[str]) -> int:
    """Run the command; answer its exit status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
    ended = os.pidfd_open(child.pid)
    watched = [ended, 0]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if ended in ready:
            return child.wait()
        if not os.read(0, 4096):
            break
    child.terminate()
    try:
        return child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
