"""Jobs that are other programs: the reference's own scripts, a container, anything that renders.

A command gets what a rank group gets: devices leased, a port, parameters by environment and in its
argument list, its tree of processes watched and ended whole, its output read and kept.
"""
