"""Failures of the world outside the files.

EdgetrainError
├── UsageError            the command line asks for something that can't be (exit 2)
├── InvalidFiles          problems in files, all of them (exit 1)
├── RepositoryError       git, or the checkout, is not as needed
│   └── PushRejected      the remote moved on; fetch and try again
├── StalePlan             the plan given to apply is not the plan of now
├── UnsafePlan            limits on deletions or updates are passed
├── Stopped               SIGINT or SIGTERM asked for a clean stop
└── ProviderError         a provider failed
    ├── Transient         may succeed if tried again; the only one that is retried
    ├── Denied            no right, or a wrong credential
    ├── NotFound          what was named is not there
    ├── Conflict          something else holds, or already is, what was asked for
    ├── Rejected          refused for good: policy, bad content, unsupported
    └── Unavailable       the provider, or an optional package of it, is not on this machine
"""

from __future__ import annotations

from collections.abc import Sequence

from edgetrain.core.problem import Problem


class EdgetrainError(Exception):
    """`reason` is a stable CamelCase name, `fix` says what to do next. Neither holds a secret."""

    default_reason = "Failed"

    def __init__(self, message: str, *, reason: str | None = None, fix: str = "") -> None:
        super().__init__(message[:2000])
        self.message = message[:2000]
        self.reason = reason or self.default_reason
        self.fix = fix


class UsageError(EdgetrainError):
    """The command line asks for something that can't be."""

    default_reason = "Usage"


class InvalidFiles(EdgetrainError):
    """Problems in files."""

    default_reason = "InvalidFiles"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"{len(problems)} problem(s) in files")
        self.problems = tuple(problems)


class RepositoryError(EdgetrainError):
    """Git, or the checkout, is not as needed."""

    default_reason = "RepositoryNotReady"


class PushRejected(RepositoryError):
    """The remote moved on between our fetch and our push."""

    default_reason = "PushRejected"


class StalePlan(EdgetrainError):
    """The plan given is not the plan of now."""

    default_reason = "StalePlan"


class UnsafePlan(EdgetrainError):
    """A limit on deletions or updates is passed."""

    default_reason = "LimitPassed"


class Stopped(EdgetrainError):
    """A signal asked for a clean stop."""

    default_reason = "Stopped"


class ProviderError(EdgetrainError):
    """A provider failed."""

    default_reason = "ProviderFailed"


class Transient(ProviderError):
    """May succeed if tried again."""

    default_reason = "Transient"


class Denied(ProviderError):
    """No right, or a wrong credential."""

    default_reason = "Denied"


class NotFound(ProviderError):
    """What was named is not there."""

    default_reason = "NotFound"


class Conflict(ProviderError):
    """Something else holds, or already is, what was asked for."""

    default_reason = "Conflict"


class Rejected(ProviderError):
    """Refused for good."""

    default_reason = "Rejected"


class Unavailable(ProviderError):
    """The provider is not on this machine."""

    default_reason = "Unavailable"


# By name, for what programs at the site tell (`onsite/vm/fault.py`).
KINDS: dict[str, type[ProviderError]] = {
    kind.__name__: kind for kind in (Transient, Denied, NotFound, Conflict, Rejected, Unavailable)
}
