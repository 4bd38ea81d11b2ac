"""The sign-in, the session, and all that is built on them, over the emulator."""
