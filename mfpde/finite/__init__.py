"""M < ∞: finite Transformers, trained by gradient descent or its flow; shares mfpde.problem with the limit, no more."""
