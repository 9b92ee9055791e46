"""Finite elements for densities: meshes, spaces, frames, and the moments that the Transformer sees."""
