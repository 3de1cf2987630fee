"""Small networks that choose among admissible actions, as PyTorch trains them; their numpy twins stand in ``edge``."""
