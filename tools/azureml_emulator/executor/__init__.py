"""Carries out submitted runs: over SSH on attached machines, here for Kubernetes targets (see docs/emulator.md).

A run's program is detached on its machine; one thread here follows it. Stopping the emulator leaves the programs as
they are, and the next emulator of the same data folder finds them again.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from azureml_emulator.executor.carrier import ENDED, KIND, Carrier
from azureml_emulator.executor.ssh import Links
from azureml_emulator.executor.target import host_of

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator, Executor

STOP_SECONDS = 30.0


def make(emulator: Emulator) -> Executor:
    """The executor of an emulator whose ports are known; runs of an earlier one go on at once."""
    executor = Carriers(emulator)
    executor.resume()
    return executor


class Carriers:
    """One carrier, in a thread, for each run that is under way."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._links = Links(emulator.store)
        self._lock = threading.Lock()
        self._carriers: dict[str, tuple[Carrier, threading.Thread]] = {}
        self._stopped = False

    def resume(self) -> None:
        """Carry on with the runs that were submitted and have not ended, or were not cleared away."""
        for run_id, run in self._emulator.store.scan("run"):
            if run.get("_definition") and run.get("status") not in ENDED:
                self.submitted(run_id)
        for run_id, _ in self._emulator.store.scan(KIND):
            self.submitted(run_id)

    def submitted(self, run_id: str) -> None:
        """See Executor."""
        with self._lock:
            if self._stopped or run_id in self._carriers:
                return
            carrier = Carrier(self._emulator, run_id, lambda name: host_of(self._emulator, self._links, name))
            thread = threading.Thread(target=self._carry, args=(run_id, carrier), name=f"run {run_id}", daemon=True)
            self._carriers[run_id] = carrier, thread
        thread.start()

    def _carry(self, run_id: str, carrier: Carrier) -> None:
        try:
            carrier.carry()
        finally:
            with self._lock:
                del self._carriers[run_id]

    def cancel(self, run_id: str) -> None:
        """See Executor."""
        with self._lock:
            found = self._carriers.get(run_id)
        if found is not None:
            found[0].wake()

    def stop(self) -> None:
        """See Executor."""
        with self._lock:
            self._stopped = True
            found = list(self._carriers.values())
        for carrier, _ in found:
            carrier.stop()
        self._links.drop()
        for _, thread in found:
            thread.join(STOP_SECONDS)
        self._links.stop()
