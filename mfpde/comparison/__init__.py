"""Is the computed limit that of finite Transformers? Evidence, checks of four kinds, and one verdict (`verdict`)."""
