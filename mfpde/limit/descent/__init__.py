"""Training by steps: the method's state at every node, and the stepper."""
