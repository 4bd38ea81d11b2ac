"""A registry in a folder: an OCI image layout per repository."""
