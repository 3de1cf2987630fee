"""A student that learns on: old and new decisions mixed, judged against the one that acts, promoted or not, taken back.

``replay`` mixes, ``judging`` compares, ``versions`` keeps files. How a network is trained is ``train``'s.
"""
