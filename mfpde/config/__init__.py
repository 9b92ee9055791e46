"""The run file: its tables as frozen settings, and as the objects that they name."""
