"""Tests of the testbed itself: a part that lies would make every other test lie."""
