"""Tests of the registry provider over HTTP, with the real registry."""
