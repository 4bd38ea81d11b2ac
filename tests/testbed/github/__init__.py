"""Tests of the stand-in for GitHub: what it answers is what the client is tested by."""
