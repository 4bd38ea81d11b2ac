"""How the supervisor and the launcher speak: over pipes that it inherits, or over its standard streams.

Either way, of a launcher that was started: `child` is its process (or the engine's), `log` are the pipes that what
it and the command say comes from, `report` is where the report comes from; none of them blocks.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any


class Inherited:
    """Pipes of their own for the report and the leave."""

    child: subprocess.Popen[bytes]

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.report, report_in = os.pipe()
        leave_out, self._leave = os.pipe()
        said, log_in = os.pipe()
        self.log = [said]
        for handle in (said, self.report):
            os.set_blocking(handle, False)
        config = dict(spec["launch"], report=report_in, go=leave_out, parent=os.getpid())
        try:
            self.child = subprocess.Popen(
                [*spec["argv"], json.dumps(config)],
                stdin=subprocess.DEVNULL,
                stdout=log_in,
                stderr=log_in,
                env=spec["env"],
                cwd=spec["cwd"],
                pass_fds=(report_in, leave_out),
                start_new_session=True,
            )
        finally:
            for handle in (report_in, leave_out, log_in):
                os.close(handle)

    def whole(self, data: bytes) -> bool:
        """Whether the report is all there: the launcher closes its end."""
        return False

    def leave(self) -> None:
        """Let the command begin: one byte."""
        os.write(self._leave, b"g")

    def close(self) -> None:
        """The launcher needs neither pipe any more."""
        os.close(self.report)
        os.close(self._leave)


class Stdio:
    """The standard streams, through a container engine: its standard input stays open as long as the run may live,
    for the launcher ends everything when it closes."""

    child: subprocess.Popen[bytes]

    def __init__(self, spec: Mapping[str, Any]) -> None:
        said, log_in = os.pipe()
        self.report, out_in = os.pipe()
        self.log = [self.report, said]
        for handle in self.log:
            os.set_blocking(handle, False)
        try:
            self.child = subprocess.Popen(
                [*spec["argv"], "-"],
                stdin=subprocess.PIPE,
                stdout=out_in,
                stderr=log_in,
                env=spec["env"],
                cwd=spec["cwd"],
                start_new_session=True,
            )
        finally:
            os.close(log_in)
            os.close(out_in)
        self._say(json.dumps(spec["launch"]).encode() + b"\n")

    def _say(self, data: bytes) -> None:
        assert self.child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended: its log tells why
            self.child.stdin.write(data)
            self.child.stdin.flush()

    def whole(self, data: bytes) -> bool:
        """Whether the report is all there: it is one line."""
        return b"\n" in data

    def leave(self) -> None:
        """Let the command begin: one byte."""
        self._say(b"g")

    def close(self) -> None:
        """Nothing: all streams last as long as the run."""
