"""The prior of every parameter: given ones and defaults."""
