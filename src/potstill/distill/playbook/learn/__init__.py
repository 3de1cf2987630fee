"""Learning loops: episodes in, batches of a playbook out (arXiv 2510.04618, sections 3 and 4).

``loop.learn`` is the entry, ``settings.Settings`` says in which mode and how, ``contract`` who takes part. What a run
has done is in its journal, so that it goes on after Ctrl-C or a kill where it was.
"""
