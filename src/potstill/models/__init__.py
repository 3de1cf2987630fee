"""Things that answer: endpoints, local models, experts, recorded and scripted answers. All satisfy ``protocols.Model``.

Open one by its name with ``potstill.models.registry.open_model``; each kind has its own file, loaded when it is opened.
"""
