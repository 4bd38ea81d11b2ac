"""Tests of the workflows on GitHub: as files, and run from end to end."""
