"""The real parts of a site on one machine: blob store, registry and VM. For tests and `make demo-edge`."""
