"""Runs the script of a run as Python would, and sends what the client still holds when it ends.

The client sends metrics from a thread that dies with the process; the service's own wrapper waits for it, and so
does this. Called as `launch.py SCRIPT ARGUMENT...` in the run's working folder.
"""

from __future__ import annotations

import os
import runpy
import site
import sys
from pathlib import Path


def flush() -> None:
    """Wait for the client, if the script used it."""
    if "azureml.core.run" not in sys.modules:
        return
    from azureml.core import Run

    try:
        Run.get_context(allow_offline=False).flush()
    except Exception as error:
        # The script's own outcome is what counts.
        print(f"launch: not all metrics were sent: {type(error).__name__}", file=sys.stderr)


def main() -> None:
    """Run the script named first; its exit is this process's."""
    packages = os.environ.pop("AZUREML_EMULATOR_PACKAGES", "")
    if packages:
        site.addsitedir(packages)  # folders on PYTHONPATH get no .pth files read
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        flush()


if __name__ == "__main__":
    main()
