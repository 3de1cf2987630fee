"""Recording what happens outside of our own loop: putting single calls together into episodes."""
