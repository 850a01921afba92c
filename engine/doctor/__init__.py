"""Whether this host, this session and this installation are fit for avatop; no screen here."""
