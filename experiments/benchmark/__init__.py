"""Figures of merit, each beside its peer on the same machine: `python -m experiments.benchmark`."""
