"""Image assembly: deterministic layers, config and manifest, without a daemon."""
