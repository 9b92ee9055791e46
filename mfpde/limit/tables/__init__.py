"""Tables of the nonlinear coordinates, on which the Transformer is evaluated for nodes that move."""
