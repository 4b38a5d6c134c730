"""How the effects of one group vary together: one file a structure, one line each in `registry`."""
