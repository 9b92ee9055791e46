"""Pictures made from a run directory; nothing here is imported before a picture is asked for."""
