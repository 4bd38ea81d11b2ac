"""Artifacts and data in folders of the site."""
