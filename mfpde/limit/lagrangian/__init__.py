"""Densities on Lagrangian nodes: the nodes, interpolation between them, and the remap onto fresh ones."""
