"""The edge, with its real parts."""
