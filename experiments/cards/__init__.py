"""The families' model cards, written from the models' own: `python -m experiments.cards`."""
