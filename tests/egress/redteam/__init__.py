"""Honest attempts to smuggle training data out of a run, and what becomes of each."""
