"""How Winnow grows: time and memory of its offline steps and of a request's parts on worlds of more and more items."""
