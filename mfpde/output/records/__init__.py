"""Records of a run: tables, manifest, warnings and progress."""
