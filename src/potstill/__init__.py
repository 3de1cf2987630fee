"""potstill: run your agent on a cheap model, escalate to the expensive one only when needed, prove what it saved.

Importing the package loads nothing heavy: models, environments and reports load in the module that uses them.
"""

__version__ = "0.1.0"
