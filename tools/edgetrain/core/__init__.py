"""The pure heart: manifests, identity, plan, records. No I/O, clock, environment or SDK."""
