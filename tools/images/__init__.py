"""Base images, built from Debian and PyPI alone."""
