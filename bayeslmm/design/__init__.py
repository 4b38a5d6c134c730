"""Description and data together: y, X, Z, R, their labels, and words about them."""
