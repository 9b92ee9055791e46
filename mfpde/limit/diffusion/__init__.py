"""Diffusion of densities, by the symmetric interior penalty form."""
