"""The admin API and what it shows: keys, stages, episodes, outcomes."""
