"""What the commands carry out: a run of the limit, finite Transformers, a comparison, a parameter sweep."""
