"""Programs that are copied to the machine of a compute target and run there: standard library only, Python 3.8+."""
