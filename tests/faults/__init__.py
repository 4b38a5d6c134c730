"""Faults of the machine, made on purpose in processes of their own, and what happens: `python -m tests.faults`."""
