"""A fit or a posterior in the field's terms: estimates, variances and their shares, shrinkage, each with its words."""
