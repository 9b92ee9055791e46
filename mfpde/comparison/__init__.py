"""Is the PDE the limit of finite Transformers? From evidence, by checks of four kinds, to one verdict (`verdict`)."""
