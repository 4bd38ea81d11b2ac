"""Every failure of a verb, in words, and its exit code: the one place where errors are printed."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import traceback

import click

from edgetrain import __version__
from edgetrain.cli.session import Session
from edgetrain.cli.table import VERBS
from edgetrain.core.errors import EdgetrainError, InvalidFiles, UsageError

EXIT_PROBLEMS = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_INTERRUPTED = 130
DEBUG = "EDGETRAIN_DEBUG"


def fail(error: Exception, session: Session) -> int:
    """Print the error in the session's format and answer the exit code."""
    if isinstance(error, InvalidFiles):
        from edgetrain.cli.problems import show_problems

        show_problems(session, error.problems)
        return EXIT_PROBLEMS
    if isinstance(error, click.ClickException):
        return _usage(error, session)
    if isinstance(error, EdgetrainError):
        _debug(error)
        _print(session, error.reason, error.message, error.fix)
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_REFUSED
    if (reason := _machine(error)) is not None:
        _debug(error)
        _print(session, *reason)
        return EXIT_REFUSED
    return _unexpected(error, session)


def _machine(error: Exception) -> tuple[str, str, str] | None:
    """Reason, message and fix of what this machine lacks, wherever that showed; None for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number in (errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        return "OutOfMemory", "this machine has no memory left", "end what uses it up, then run this again"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "StorageFull", "a disk of this machine is full", "make room (also in /tmp), then run this again"
    if number in (errno.EROFS, errno.EIO):
        what = f"a disk of this machine fails: {os.strerror(number)}"
        return "StorageFault", what, "check the disk and its mount, then run this again"
    return None


def interrupted(session: Session) -> int:
    """Say in a line what Ctrl-C left behind, and answer the exit code."""
    from edgetrain.repo.command import end_all

    verb = VERBS.get(session.verb)
    message = f"stopped: {verb.stopped if verb else 'nothing was changed'}"
    if session.format == "json":
        _print(session, "Interrupted", message, f"call edgetrain {session.verb} again".replace("  ", " "))
    else:
        session.say(message)
    end_all()
    return EXIT_INTERRUPTED


def _usage(error: click.ClickException, session: Session) -> int:
    if session.format in ("json", "github"):
        _print(session, "Usage", error.format_message(), "see edgetrain --help")
    else:
        error.show()
    return error.exit_code if isinstance(error, click.UsageError) else EXIT_USAGE


def _unexpected(error: Exception, session: Session) -> int:
    """A fault of ours. The traceback goes to a private file, for it may quote what should not be shared."""
    if _debug(error):
        return EXIT_REFUSED
    told = f"{DEBUG}=1 shows it here"
    try:
        handle, path = tempfile.mkstemp(prefix="edgetrain-error-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"edgetrain {__version__}\n")
            traceback.print_exception(error, file=file)
        file_too = f" with {path} (read it first: it may quote your files)"
    except OSError:  # nowhere to write it
        file_too = ""
    fix = f"report it at the project's issue tracker{file_too}; {told}"
    what = f"sorry, this is a fault of edgetrain itself ({type(error).__name__}), not of your files"
    _print(session, "Unexpected", what, fix)
    return EXIT_REFUSED


def _debug(error: Exception) -> bool:
    wanted = bool(os.environ.get(DEBUG))
    if wanted:
        traceback.print_exception(error)
    return wanted


def _print(session: Session, reason: str, message: str, fix: str) -> None:
    """JSON and annotations are data, so they go to standard output; words for people to standard error."""
    if session.format == "json":
        session.show(json.dumps({"error": {"reason": reason, "message": message, "fix": fix}}, indent=2))
        return
    if session.format == "github":
        from edgetrain.render.github import annotation

        session.show(annotation("error", f"{message}\n{fix}".strip(), title=reason))
        return
    session.say(f"{click.style('error:', fg='red', bold=True)} {message}")
    session.say(f"  reason: {reason}")
    if fix:
        session.say(f"  fix: {fix}")
