"""Programs that run where the data is."""
