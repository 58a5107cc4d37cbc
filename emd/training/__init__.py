"""Training of the autoencoders, and of whole sets of kernels and perceptrons in lockstep."""
