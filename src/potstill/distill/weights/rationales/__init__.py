"""Reasoning for teachers that gave none: templated in hindsight, or sampled from a model and kept where it is right."""
