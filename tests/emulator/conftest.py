"""Emulators for the tests of this folder."""

from __future__ import annotations

from tests.emulator.fixtures import emulator, machine, make_emulator  # noqa: F401
