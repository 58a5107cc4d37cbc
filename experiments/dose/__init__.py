"""Denoisers where the truth is known: `python -m experiments.evaluate --table=dose`."""
