"""Tests of what is written for people to begin with: sites' repositories."""
