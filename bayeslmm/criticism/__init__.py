"""What the priors imply, and how much they matter."""
