"""The audit: where an agent's money goes, from logs that exist already."""
