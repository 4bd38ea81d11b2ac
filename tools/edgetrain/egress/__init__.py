"""The egress guard before a run: reads the code snapshot's files and has their text looked through."""
