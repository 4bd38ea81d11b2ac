"""The contract suites, one per port, and the providers that pass them."""
