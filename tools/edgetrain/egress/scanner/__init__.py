"""Looks through scripts without running them, in a limited process of its own: standard library only."""
