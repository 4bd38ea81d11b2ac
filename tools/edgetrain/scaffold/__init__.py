"""Templates for new manifests and training scripts."""
