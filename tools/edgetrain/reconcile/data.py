"""Digests data inputs where they are: at the target, if that reads them itself, else where the datastore is."""

from __future__ import annotations

from collections.abc import Callable

from edgetrain.core.kinds import ComputeTarget
from edgetrain.core.kinds.experiment import DataInput
from edgetrain.core.ports import DataDigest
from edgetrain.reconcile.site import Site


def measure_input(
    site: Site, target: ComputeTarget | None, source: DataInput, progress: Callable[[int], None] | None = None
) -> tuple[DataDigest, bool]:
    """The digest, and whether the target made it, from a copy of its own that nothing changes afterwards.

    Raises ProviderError.
    """
    store = site.datastore(source.datastore)
    if target is not None:
        where, single = store.source(source.path), source.type == "uri_file"
        found = site.compute(target).measure(where, single, progress)
        if found is not None:
            return found, True
    return store.digest(source.path, progress), False
