"""What is put together from pictures: the album, the reports of a run and of a comparison, the live view."""
