"""The parent process of a run that Azure ML starts: it alone holds the run's token, the script is its child.

The snapshot that Azure ML brings holds `run.py` (the same as `entry.py` here), `run.json`, `programs/` (these and
the other on-site programs) and `code/` (the experiment's files, exactly those that `run.json` lists). `run.json`
has `kind`: `vm` (the run lies prepared on the machine, see `vm.py`), `pod` (all is made here, see `pod.py`) or
`probe` (only looks at the sandbox); `id`; `code` (see `listing.py`); `outputs` (declared paths) and `leaving` (what
may leave, see `accept.py`).

Only `tracking.py` needs a package: azureml-core. All else is the standard library, for Python 3.9 or later.
"""
