"""Tests of the pure core, and of whole repositories through validate."""
