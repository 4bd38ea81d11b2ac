"""Checks beyond the schema, as pure functions over manifests, records and plain facts."""
