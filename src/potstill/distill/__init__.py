"""Handing knowledge down from teacher to student: ``context`` (demonstrations in the prompt).

Nothing is imported here. The parts never import each other; they get episodes as trajectories.
"""
