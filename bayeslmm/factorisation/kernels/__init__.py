"""What numba compiles: elimination, tail, back-substitution."""
