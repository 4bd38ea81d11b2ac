"""A repository whose workspace is Azure ML, over the emulator and the real parts of a site."""
