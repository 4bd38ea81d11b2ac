"""Reading and writing the git repository: YAML, trees, history, records."""
