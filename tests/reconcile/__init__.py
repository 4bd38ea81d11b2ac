"""Tests of the story: what is told of runs and models, and what is done to them."""
