"""The stand-in for Azure ML, held by the unmodified client."""
