"""What the plan refuses (codes P5xx)."""

from __future__ import annotations
