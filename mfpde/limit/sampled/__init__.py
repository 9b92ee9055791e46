"""Densities on nodes that are drawn from the initial laws by randomised quasi-Monte Carlo, in any dimension."""
