"""Compares what would leave a run with the data that the run read, where both lie.

Standard library only, Python 3.9 or later, one folder. Started as `python3 -I -S FOLDER`, with JSON on stdin:

    outputs   the run's outputs folder
    inputs    name of each data input to its file or folder
    log       the log's file, or null; looked at only if the rules say that it would leave
    rules     files (path to type), texts, metrics, history, log, waived, max_expanded, seconds
    limits    optional: memory (bytes), learn (bytes of rows to learn; of more a share)

and one JSON document on stdout: `complete`, `reason` (why not), `findings` (`code`, `where`, `what`, `waived`),
`files`, `bytes` (looked at, unpacked), `fingerprints`, `coverage` (share of the data's grams that are kept),
`data` (bytes fingerprinted), `seconds`. Nothing of the data is in it.

Fingerprints are Python's own SipHash, whose 128-bit key the interpreter draws anew at each start (`-I` keeps the
environment from setting it): they mean nothing outside this process, and end with it.
"""
