"""The report of a posterior: one page with everything that was asked of it."""
