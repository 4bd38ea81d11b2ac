"""Tests of the command line: verbs, streams, exit codes, renderings, templates."""
