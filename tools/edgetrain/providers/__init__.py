"""The edges of the world, one folder a provider, found through `table.py`."""
