"""Benchmarks, not part of the default tests: `python -m tests.benchmarks.peers`, `scaling`, `structures`, `glmm`."""
