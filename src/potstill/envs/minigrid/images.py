"""The agent's view as a small PNG: 7 x 7 cells, 8 pixels each, 56 x 56 RGB (about 400 bytes).

What it knows: minigrid's own renderer and pygame's PNG writer (minigrid brings pygame). What it does not do: keep the
bytes.
"""

from __future__ import annotations

import io
from typing import Any

PIXELS_PER_CELL = 8
MEDIA_TYPE = "image/png"


def render_png(env: Any) -> bytes:
    """The partial view of a minigrid environment, the agent at the bottom in the middle looking up."""
    import pygame

    pixels = env.get_pov_render(PIXELS_PER_CELL)
    surface = pygame.surfarray.make_surface(pixels.transpose(1, 0, 2))
    stream = io.BytesIO()
    pygame.image.save(surface, stream, "view.png")
    return stream.getvalue()
