"""The roles of arXiv 2510.04618, section 3: who reflects on an episode, and who proposes what to change in a playbook.

The Generator is the acting agent itself, and no code of its own. Shapes: ``contract``. An episode becomes a case in
``evidence``; ``reflector`` and ``curator`` ask a model with the words of ``prompts``; ``rounds`` asks a Reflector
several times.
"""
