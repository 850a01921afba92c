"""Fails when imported, in a way that no import statement expects."""

raise RuntimeError("broken on purpose")
