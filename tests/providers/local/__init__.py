"""Tests of the local compute target."""
