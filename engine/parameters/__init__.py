"""The parts of ``engine.params``; import from there."""
