"""Clouds of nodes: what a file of them holds, and the densities of any coordinate, smoothed."""
