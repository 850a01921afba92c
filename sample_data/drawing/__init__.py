"""How the sample portraits are drawn: one module per style, all on the same canvas."""
