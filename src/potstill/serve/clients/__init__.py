"""Towards clients: HTTP requests as they come in, what is read of them, and how answers and errors go out."""
