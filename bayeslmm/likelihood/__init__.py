"""ML and REML: criterion, search, fits, confidence limits."""
