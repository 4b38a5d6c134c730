"""Pictures of a model, a fit or a posterior: each computes first, then draws into the axes it is given."""
