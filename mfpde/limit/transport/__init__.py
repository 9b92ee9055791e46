"""The discontinuous Galerkin transport of densities: on any cells, and on tensor-product cells."""
