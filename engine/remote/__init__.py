"""An engine in a process of its own: the socket it is reached by, its host, its clients."""
