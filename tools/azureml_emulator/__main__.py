"""The console script `azureml-emulator`, and `python -m azureml_emulator`."""

from __future__ import annotations

from azureml_emulator.cli import app
from azureml_emulator.cli_record import compare, record

app.add_command(record)
app.add_command(compare)


def main() -> None:
    """Run the command that the command line names, and exit with its code."""
    app(prog_name="azureml-emulator")


if __name__ == "__main__":
    main()
