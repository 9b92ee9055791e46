"""Pictures and pages of a run directory; no picture's module is imported before the picture is asked for."""
