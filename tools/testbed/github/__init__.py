"""A stand-in for GitHub in one process: REST API, git over HTTPS, Apps, pull requests, protected branches, events.

    with GithubServer() as server:
        remote = server.create_repository("hosp/models", files={"README.md": "# Models"})
        number, key = server.app(repositories=["hosp/models"])  # an App and its private key
        server.protect("hosp/models", bypass_apps=[number])
        token = server.user("ada", {"hosp/models": "write"})
        server.commit("hosp/models", "change", {"a.txt": "a"}, by="ada")
        pull = server.open_pull("hosp/models", "change", by="ada", title="Add a")
        server.user("grace", {"hosp/models": "write"})
        server.review("hosp/models", pull, by="grace")
        commit = server.merge("hosp/models", pull, by="grace")

Clients are told `server.url` (pages, git), `server.api` (REST) and trust `server.ca`. Tokens go into the header
`Authorization` or, for git, are the password of `x-access-token`. `server.events(since)` tells what would wake
workflows.

What it does not do: GraphQL, rebase merges, approval of the last push, signatures of its own commits.
"""

from testbed.github.bare import GitFailed
from testbed.github.faults import Fault, Request
from testbed.github.openapi import Violation
from testbed.github.pulls import Invalid, NotMergeable
from testbed.github.server import GithubServer
from testbed.github.store import Event

__all__ = ["Event", "Fault", "GitFailed", "GithubServer", "Invalid", "NotMergeable", "Request", "Violation"]
