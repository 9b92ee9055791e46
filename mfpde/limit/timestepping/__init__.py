"""Time steps: error-controlled pairs, multirate and implicit-explicit ones."""
