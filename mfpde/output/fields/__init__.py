"""Density files: snapshots of fields, written and read through VTK."""
