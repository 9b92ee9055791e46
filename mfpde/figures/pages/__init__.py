"""What is put together from pictures: the album, the report of a run, the live view."""
