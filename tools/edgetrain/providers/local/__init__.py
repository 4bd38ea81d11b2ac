"""Compute `local`: runs as sandboxed processes on the runner itself."""
