"""What the runner asks of the machine where runs are made: one request a process, JSON on the first line of stdin.

`main.py` answers the verbs, `runs.py` keeps the runs' folders (the local compute target uses it too, in its own
process), `unpack.py` takes the code in, `tell.py` gives logs and outputs out, `host.py` looks at the machine.
"""
