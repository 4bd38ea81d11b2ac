"""Tests of the forge on GitHub, beyond the contract: with a scripted server, and with the testbed's stand-in."""
