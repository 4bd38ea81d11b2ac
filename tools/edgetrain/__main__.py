"""The console script `edgetrain`, and `python -m edgetrain`."""

from __future__ import annotations

import sys

from edgetrain.cli.app import app


def main() -> None:
    """Run the verb that the command line names, and exit with its code."""
    sys.exit(app.main(prog_name="edgetrain", standalone_mode=False))


if __name__ == "__main__":
    main()
