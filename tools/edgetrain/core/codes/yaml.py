"""What the strict YAML reader refuses (codes Y1xx)."""

from __future__ import annotations
