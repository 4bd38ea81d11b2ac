"""`edgetrain emulator`: the stand-in for Azure Machine Learning, on this machine."""

from __future__ import annotations

import importlib.util

import click

from azureml_emulator.cli import log, up
from edgetrain.core.errors import UsageError

NEEDED = ("starlette", "uvicorn", "jwt", "asyncssh", "cryptography", "certifi")


@click.group()
def emulator() -> None:
    """Run a stand-in for Azure ML here, and look at what it was asked.

    The unmodified client talks to it as to the service; see docs/emulator.md.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the emulator needs packages that are not there: {', '.join(missing)}",
            reason="NotInstalled",
            fix="install edgetrain with its extra: edgetrain[emulator]",
        )


emulator.add_command(up)
emulator.add_command(log)
