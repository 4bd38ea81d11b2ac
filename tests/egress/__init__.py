"""The egress guard before a run."""
