"""The episode loop: arms, prompts, one episode, and runs of many episodes that survive interruption."""
