"""Tests of the ssh compute target that need no machine."""
