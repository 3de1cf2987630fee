"""Language models tuned on a teacher's episodes: low-rank adapters on the prompts that ``run`` sends.

``chats`` makes prompts and answers, ``tokens`` their tokens, ``network`` is what the training loop trains, ``student``
puts them together, ``folder`` writes what can act. Nothing is imported here.
"""
