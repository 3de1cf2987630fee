"""The command line: one file per command, found lazily by ``main``; ``output`` is the only place that prints data.

Callbacks parse and print; what a command does lies in the layers above. Nothing imports this package.
"""
