"""Is the PDE the limit of finite Transformers? Distances, slopes, extrapolations, and the verdict."""
