"""Names, paths and templates that point nowhere or outside (codes R3xx)."""

from __future__ import annotations
