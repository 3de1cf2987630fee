"""What houses and orders are drawn from: fields of an order, stages with their ways, extra acts, troubles.

What it knows: words. What it does not do: draw (``house``), play (``environment``). A trouble is what shows when a rule
was broken. No trouble names a field, a way or an act: it says what happened, never why or what would have helped.
"""

from __future__ import annotations

FIELDS: dict[str, tuple[str, ...]] = {
    "material": ("glass", "oak", "marble", "wool", "copper"),
    "customer": ("a school", "a museum", "a hospital", "a shop", "a theatre"),
    "destination": ("Norway", "Chile", "Kenya", "Japan", "Malta"),
    "promised for": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
}
QUANTITY = "quantity"
QUANTITIES = range(1, 61)

STAGES: dict[str, tuple[str, ...]] = {
    "cut": ("with the band saw", "with the water jet", "with the laser", "with the wire", "by hand"),
    "finish": ("with wax", "with lacquer", "with oil", "with powder", "with steam"),
    "inspect": ("under the lamp", "on the scale", "with the gauge", "in pairs", "by camera"),
    "pack": ("in straw", "in foam", "in a crate", "in paper", "in a drum"),
    "store": ("in the cellar", "on the rack", "in the cold room", "in the yard", "by the door"),
    "ship": ("by van", "by rail", "by sea", "by courier", "by air"),
}
"""A stage's verb, and the ways to do it. ``cut with the laser`` is an action."""

ACTS = (
    "get the manager's note",
    "label it fragile",
    "weigh it",
    "photograph it",
    "call the customer",
    "print the customs form",
    "stamp the back",
    "dry it overnight",
    "measure it twice",
    "wipe it clean",
)
"""What may be done besides, each at most once."""

TROUBLES = (
    "the edges came out chipped",
    "a corner broke off",
    "the surface turned dull",
    "it smelled burnt",
    "a scanner stayed red",
    "the lid would not close",
    "a clerk shook her head",
    "the alarm went off",
    "two pieces stuck together",
    "the numbers did not match",
    "a seam opened",
    "dust got in",
    "the belt stopped",
    "a lamp blinked twice",
    "the foreman sent it back",
    "a stain appeared",
    "the pile tipped over",
    "the gate stayed shut",
    "a bolt came loose",
    "it was too damp",
    "the colour ran",
    "the inspector frowned",
    "a wheel squeaked",
    "the paper jammed",
)
