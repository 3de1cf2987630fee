"""Engines for larger work: they are handed data and a configuration in a folder, and run in their own environment.

``job`` is the folder's configuration, ``rows`` what is learnt from, ``trl_script`` what runs in the other environment,
``running`` starts it and waits. Nothing is imported here.
"""
