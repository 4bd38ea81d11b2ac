"""edgetrain: GitOps for machine-learning models that must be trained where the data is."""

__version__ = "0.1.0"
