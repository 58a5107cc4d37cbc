"""The paper's figures, drawn from the modules, the shipped curves and the shipped weights."""
