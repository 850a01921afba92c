"""A night's work: pairs of voice and portrait, made one after the other or side by side.

The protocol is in ``docs/batch.md``: a frozen manifest, claims with a fence, outputs that appear
whole under their name and never over another file.
"""
