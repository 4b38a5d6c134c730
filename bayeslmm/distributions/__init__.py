"""Prior distributions as a user names them, and their densities."""
