"""Declared secrets: where each comes from, and who may have it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from edgetrain.core.errors import Denied, NotFound, ProviderError, Unavailable
from edgetrain.core.kinds import Configuration
from edgetrain.core.secret import Secret, redact

MAX_SECRET = 64 * 1024


def secret_of(configuration: Configuration, name: str, target: str | None = None) -> Secret:
    """The value of a declared secret, without the line end that files have.

    Raises NotFound where it is not declared or not on this machine, Denied where `target` may not use it or
    others than its owner can read its file, Unavailable for a key vault, which is not served yet.
    """
    declared = configuration.secrets.get(name)
    if declared is None:
        raise _missing(name, "is not declared", f"declare it in edgetrain.yaml: spec.secrets.{name}")
    if target is not None and target not in declared.get("targets", (target,)):
        raise Denied(
            f"secret {name} is not for target {target}",
            reason="SecretNotAllowed",
            fix=f"list the target in edgetrain.yaml: spec.secrets.{name}.targets",
        )
    source = declared["source"]
    if "file" in source:
        return Secret(_read(name, Path(source["file"]).expanduser()))
    if "environment" in source:
        value = os.environ.get(source["environment"], "")
        if not value:
            raise _missing(name, f"is not set: {source['environment']}", "set it in the runner's environment")
        return Secret(value)
    raise Unavailable(
        f"secret {name} lies in a key vault, which this version does not read",
        reason="KeyVaultNotServed",
        fix="give it as a file on the runner host, or in the runner's environment",
    )


def _read(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_SECRET + 1)
    except OSError:
        raise _missing(name, "has no readable file on this machine", "put it where edgetrain.yaml says") from None
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise Denied(
            f"the file of secret {name} can be read by others than its owner",
            reason="SecretExposed",
            fix="chmod 600 the file, owned by the runner's user",
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text.strip() or len(data) > MAX_SECRET:
        raise _missing(name, "is empty, too large or no text", "write the value into its file")
    return text if "\n" in text.strip() else text.strip()


def _missing(name: str, what: str, fix: str) -> NotFound:
    return NotFound(f"secret {name} {what}", reason="SecretMissing", fix=fix)


def masked(configuration: Configuration, lines: Iterable[str]) -> Iterator[str]:
    """The lines without the values of the secrets that this machine holds."""
    held = []
    for name in configuration.secrets:
        with suppress(ProviderError):  # what is not here can't be in what was written here
            held.append(secret_of(configuration, name))
    for line in lines:
        yield redact(line, held)
