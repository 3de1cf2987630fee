"""Playbooks: bullets of experience in the prompt, distilled from episodes (ACE, arXiv 2510.04618)."""
