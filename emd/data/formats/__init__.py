"""What files other than TIFF hold, and how they are written: one module a family of formats."""
