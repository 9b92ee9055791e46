"""Density files: snapshots of fields, written for VTK and read through it."""
