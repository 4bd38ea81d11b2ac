"""The repository's own experiments, run for real."""
