"""Densities kept nonnegative: the evolved one by a limiter, copies of it by bounds on Bernstein coefficients."""
