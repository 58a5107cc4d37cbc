"""The paper's tables and claims, held against our models: `python -m experiments.evaluate`."""
