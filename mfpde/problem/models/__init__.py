"""Models and the families of which they are made; a file of a user's could define each of them."""
