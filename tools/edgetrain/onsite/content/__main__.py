"""Runs the content check as a folder: `python3 -I -S FOLDER`."""

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[0] = str(here.parent)
    importlib.import_module(here.name + ".main").main()
