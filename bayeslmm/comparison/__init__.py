"""ML, REML, joint and marginal side by side: tables, words, pictures, a report."""
