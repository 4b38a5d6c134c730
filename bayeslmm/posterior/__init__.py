"""Sampling, and what the draws are worth."""
