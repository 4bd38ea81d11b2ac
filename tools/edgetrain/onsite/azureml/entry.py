"""Starts the run's parent process from the snapshot's folder."""

import importlib
import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120 - before anything could be imported from there

if __name__ == "__main__":
    # Beside this file lies the experiment's code: no module of it may be imported into the process with the token.
    sys.path[:] = [path for path in sys.path if path and os.path.realpath(path) != HERE]
    sys.path.insert(0, os.path.join(HERE, "programs"))  # noqa: PTH118
    sys.exit(importlib.import_module("onsite.azureml.main").main(HERE))
