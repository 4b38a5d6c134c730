"""Data where they are: cross-products computed by the engine that has the rows."""
