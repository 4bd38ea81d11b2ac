"""Any OCI registry, over the distribution API."""
