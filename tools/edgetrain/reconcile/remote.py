"""Which credential git uses with the remote: one of the forge's, made for each push and fetch, or the machine's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from edgetrain.core.errors import Denied, RepositoryError
from edgetrain.core.kinds import Configuration
from edgetrain.reconcile.judge import CONFIGURATION, manifest_of
from edgetrain.reconcile.site import Site
from edgetrain.repo.git import Git


def connect(git: Git, site: Site) -> None:
    """Let git talk to its remote as the site's configuration says: with the forge's credential if it is that which
    pushes records, else with the machine's own."""
    declared = site.configuration.forge
    git.remote = partial(_settings, site) if declared is not None and declared.own_push else None


def connect_as_known(git: Git, branch: str) -> None:
    """The same by the configuration of main as last fetched, for the fetch of what is newer."""
    try:
        data = git.show(git.tip(branch, refresh=False), CONFIGURATION)
    except RepositoryError:
        return  # the fetch itself says what is wrong
    configuration = manifest_of(data, CONFIGURATION)
    if isinstance(configuration, Configuration) and configuration.forge is not None:
        # The forge is the same from every site.
        connect(git, Site(configuration, next(iter(configuration.sites)), git.root))


def _settings(site: Site) -> Mapping[str, str]:
    try:
        return site.forge.push_settings() if site.forge is not None else {}
    except Denied as error:
        if error.reason != "NoCredential":
            raise
        return {}  # a person's machine: what that person may push, git's own credential decides
