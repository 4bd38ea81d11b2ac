"""What a kind's schema refuses (codes M2xx)."""

from __future__ import annotations
