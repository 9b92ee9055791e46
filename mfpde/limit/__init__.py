"""M = ∞: the limiting PDE, its discretisations, its right-hand side and its steps; `solver` puts them together."""
