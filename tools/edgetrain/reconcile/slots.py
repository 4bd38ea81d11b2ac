"""What each target has free while an apply fills it: slots, and the declared capacity that runs take of."""

from __future__ import annotations

from collections import Counter, defaultdict

from edgetrain.core.kinds import ComputeTarget, Experiment

SHARED = ("cpus", "memory", "gpus")


class Slots:
    """Who holds what. A run is known by its change's id."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, str]] = {}
        self._busy: Counter[str] = Counter()
        self._taken: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._under_way: Counter[str] = Counter()
        self._asked: dict[str, dict[str, int]] = {}

    def take(self, run: str, target: ComputeTarget, experiment: Experiment) -> None:
        """The run holds a slot of the target and what it asks for, until it is freed."""
        name = target.metadata.name
        asked = {key: getattr(experiment.resources, key) or 0 for key in SHARED}
        self._held[run] = (name, experiment.name)
        self._asked[run] = asked
        self._busy[name] += 1
        self._taken[name].update(asked)
        self._under_way[experiment.name] += 1

    def free(self, run: str) -> None:
        """The run holds nothing any more; freeing twice is freeing once."""
        if run in self._held:
            target, experiment = self._held.pop(run)
            self._busy[target] -= 1
            self._under_way[experiment] -= 1
            self._taken[target].subtract(self._asked.pop(run))

    def of(self, experiment: str) -> int:
        """How many runs of the experiment are under way."""
        return self._under_way[experiment]

    def left(self, target: ComputeTarget) -> int:
        """Free slots of the target."""
        return target.capacity.slots - self._busy[target.metadata.name]

    def room(self, target: ComputeTarget, experiment: Experiment) -> bool:
        """Whether the target has a free slot and, of what it declares, as much as the experiment asks for."""
        taken = self._taken[target.metadata.name]
        for key in SHARED:
            has, asked = getattr(target.capacity, key), getattr(experiment.resources, key)
            if has is not None and asked is not None and taken[key] + asked > has:
                return False
        return self.left(target) > 0
