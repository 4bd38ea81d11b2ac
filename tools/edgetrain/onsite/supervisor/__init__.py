"""Stands over one run, detached from whoever started it: builds the environment, runs, watches, ends.

A package of its own (standard library only, Python 3.9 or later), so that it can be copied to any host and
started there: `python -I -c BOOTSTRAP PARENT FOLDER LOCK`. PARENT is where this package lies, FOLDER the
run's folder, LOCK a file descriptor that holds an exclusive flock on the folder's file `lock`: while it is
held, the run is alive. The folder tells everything:

    spec.json    what to do, written by who starts (see `main.py`)
    started      the supervisor began: the run is never begun again
    state.json   phase, times, isolation observed so far
    log          what the command wrote, bounded
    cancel       if there: end the run; holds the reason
    outputs/     what the command leaves
    ended.json   how the run ended; written last, never changed

`launch.py` and `harvest.py` are scripts that run inside the sandbox.
"""

BOOTSTRAP = "import sys; sys.path.insert(0, sys.argv.pop(1)); from supervisor.main import main; main()"
