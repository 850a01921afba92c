"""Fault drills: the fault for real, on a sample job, with what was lost and how long it took."""
