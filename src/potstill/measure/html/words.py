"""What the kinds of waste and of dirt are called on the page, and what they mean.

What it knows: words for the kinds that audits give. What it does not do: fail on a kind that it does not know; that
goes by its own name.
"""

from __future__ import annotations

WASTE = {
    "redundant_calls": ("Redundant calls", "The same tool with the same arguments again, in the same episode."),
    "loops": ("Loops", "A sequence of actions that repeats itself."),
    "bloated_observations": ("Bloated observations", "Tool answers so long that every later call pays for them."),
    "calls_after_last_useful_step": (
        "Calls after the last useful step",
        "Calls behind the last one that did anything new.",
    ),
}

CACHE = (
    ("Repeated prefix", "An earlier call of the episode began in the same way; saved if all of it were cached."),
    ("Repeated behind a change", "Would be a prefix too if what changes came last; saved with both."),
)


def waste_title(kind: str) -> str:
    """The name of a kind of waste; of an unknown one its own words."""
    return WASTE[kind][0] if kind in WASTE else as_words(kind)


def as_words(kind: str) -> str:
    """``repeated_episode_ids`` as ``Repeated episode ids``."""
    words = kind.replace("_", " ").strip()
    return words[:1].upper() + words[1:]
