"""Looks at the machine's container engine, and brings images and environments in: see `main.py` for the verbs."""
