"""M < ∞: the finite Transformer, trained by gradient flow. It shares mfpde.problem with the limit, and nothing else."""
