"""GitHub Actions on this machine: events of the stand-in for GitHub wake workflows, which act runs."""
