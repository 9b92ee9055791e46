"""Pictures and pages of a run directory; Matplotlib is imported with the first of them."""
