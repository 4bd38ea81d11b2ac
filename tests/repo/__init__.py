"""Tests of reading and checking files, and of git."""
