"""Towards upstreams: one request to one model, as bytes or translated, and what is read of its answer."""
