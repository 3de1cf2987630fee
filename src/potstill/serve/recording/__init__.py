"""From a finished exchange to the store: without secrets, placed in its episode, settled, closed, checked."""
