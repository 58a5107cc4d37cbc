"""What goes in: micrographs, their normalisation, simulation and crops; knows nothing of models."""
