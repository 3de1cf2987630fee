"""In-context distillation: a teacher's successful episodes shown to the student (arXiv 2512.02543).

Nothing is imported here: take ``context``, ``library``, ``config``, ``control`` and ``render`` by name.
"""
