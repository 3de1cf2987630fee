"""What the kinds of waste and of dirt are called on the page, and what they mean.

What it knows: words for the kinds that audits give. What it does not do: fail on a kind that it does not know; that
goes by its own name.
"""

from __future__ import annotations

from potstill.measure.audit.headline import waste_name

WASTE = {
    "redundant_calls": "The same tools with the same arguments again in the episode, and the same observation.",
    "possibly_redundant_calls": "The same, where the log does not show the observation.",
    "loops": "The same cycle of one to four steps at least three times in a row, from the second turn on.",
    "bloated_observations": "Observations above the threshold of --bloated; their tokens count in every call that "
    "carries them.",
    "calls_after_last_useful_step": "Steps behind the last one that called a tool with new arguments, but for one "
    "final answer.",
}
"""What the kinds mean."""
_MARKS = {
    "redundant_calls": "redundant",
    "possibly_redundant_calls": "possibly redundant",
    "loops": "loop",
    "bloated_observations": "bloated observation",
    "calls_after_last_useful_step": "after the last useful step",
}
CACHE = (
    ("Repeated prefix", "An earlier call of the episode began in the same way; saved if all of it were cached."),
    ("Repeated behind a change", "Would be a prefix too if what changes came last; saved beyond the line above."),
)


def waste_title(kind: str) -> str:
    """The name of a kind of waste; of an unknown one its own words."""
    return as_words(waste_name(kind))


def mark(kind: str) -> str:
    """What a step is marked with."""
    return _MARKS.get(kind) or as_words(kind).lower()


def as_words(kind: str) -> str:
    """``repeated_episode_ids`` as ``Repeated episode ids``."""
    words = kind.replace("_", " ").strip()
    return words[:1].upper() + words[1:]
