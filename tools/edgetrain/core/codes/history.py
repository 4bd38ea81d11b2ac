"""What git history forbids (codes H4xx)."""

from __future__ import annotations
