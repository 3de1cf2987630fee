"""Policies for other runtimes: the same numbers in another file, which passes the same gate."""
