"""Compute targets reached by SSH."""
