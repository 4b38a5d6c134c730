"""Simulation-based calibration: fit data drawn from known priors, and see where the truth ranks in each posterior.

If parameters come from the prior and data from the model, the rank of the true value among independent draws of the
posterior is uniform, whatever the model: for every parameter, every random effect, and every function of parameters
and data. `studies` states models and priors and draws from both by NumPy alone, `fits` runs the samplers as users do,
`ranks` compares and tests. ``python -m tests.calibration --help`` runs it at full size.

Sources: Talts, Betancourt, Simpson, Vehtari & Gelman (2018) for the method; Modrák et al. (2023) for the rank of the
log likelihood, without which a posterior that ignores the data would pass.
"""
