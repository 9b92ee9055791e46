"""What reports contain: moments, indicators and fields of a state."""
