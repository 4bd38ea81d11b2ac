"""Tests of single providers, beyond the contracts."""
