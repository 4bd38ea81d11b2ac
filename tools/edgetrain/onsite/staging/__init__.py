"""Brings an input's files to where it trains: lists, digests, keeps them by content, and shows them as a folder.

A package of its own (standard library only, Python 3.9 or later), copied to any host and started there as
`python3 -I -c BOOTSTRAP PARENT`, PARENT being where this package lies. The first line of stdin is the request, as
JSON; stdout answers in JSON lines: `{"progress": ...}` now and then, then one last line that is the answer or
`{"error": ...}`. Credentials come in the request and live in memory only. `main.py` has the verbs.

The cache on the host, which may be deleted whenever nothing runs:

    blobs/<2>/<sha256>   contents, read-only, on the disk for good before they count
    views/<tree>/        hard links to blobs, as one input: what a container gets, read-only
    partial/             large files under way, with the ETag that they belong to
    known.sqlite3        digests by (location, name, size, tag): names stay on this host
    work/                what stagings under way write; swept when they are gone
    locks/               see `cache.py`
"""

BOOTSTRAP = "import sys; sys.path.insert(0, sys.argv.pop(1)); from staging.main import main; main()"
