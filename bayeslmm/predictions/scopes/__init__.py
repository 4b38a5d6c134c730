"""Scopes: whose effects the rows of a prediction take; a file each, and `registry` with a line each."""
