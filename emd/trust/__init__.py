"""How far a restoration is to be trusted: an error map, and whether the image is of a known kind.

What is known of models and of simulated micrographs lies in `reference.json`, which
`python -m experiments.calibrate_trust` writes.
"""
