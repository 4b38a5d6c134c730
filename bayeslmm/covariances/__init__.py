"""What effects of one group, and rows, may have in common: a file for each kind."""
