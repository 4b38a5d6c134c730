"""What can be done with a model, a class of verbs a stage: `bayeslmm.lmm.LMM` is all of them."""
