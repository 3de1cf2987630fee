"""Drawings that follow the page: SVG by matplotlib (extra ``report``), its colours replaced by classes of the page.

What it knows: turning a matplotlib figure into an SVG element whose text is text, whose colours are those of the style
sheet (so that dark mode works), and which has no style attributes (the page's security policy forbids them). What it
does not do: know what is drawn. Each drawing is made twice, for a wide page and for a phone; the style sheet shows one.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple
from xml.etree import ElementTree

from potstill.errors import MissingExtra
from potstill.measure.html.text import Html, esc

SERIES = 6
"""Colours for lines and points; every one has a marker and a dash of its own as well."""
TINTS = 8
"""Grounds for bars that carry text."""
INK, QUIET, LINE, PAPER = "#010101", "#020202", "#030303", "#040404"
MARKERS = ("o", "s", "D", "^", "v", "P")
DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)), (0, (9, 2)), (0, (3, 1.5, 1, 1.5, 1, 1.5)))
_CLASSES = {INK: "ink", QUIET: "quiet", LINE: "line", PAPER: "paper"}
_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}href"


class Size(NamedTuple):
    """Of a drawing, in CSS pixels."""

    kind: str
    width: int
    height: int
    font: float


WIDE = Size("wide", 720, 380, 12.5)
NARROW = Size("narrow", 350, 330, 11.5)

Painter = Callable[[Any, Size], None]
"""Draws on matplotlib axes."""


def series_colour(at: int) -> str:
    """The colour of the line or point number ``at``."""
    return f"#0a0a{at % SERIES:02x}"


def tint(at: int) -> str:
    """The ground of the bar number ``at``."""
    return f"#0b0b{at % TINTS:02x}"


_CLASSES |= {series_colour(at): f"c{at}" for at in range(SERIES)}
_CLASSES |= {tint(at): f"t{at}" for at in range(TINTS)}


def check_available() -> None:
    """Raise ``MissingExtra`` without matplotlib."""
    try:
        import_module("matplotlib")
    except ImportError as error:
        raise MissingExtra("drawing the report's charts", "report") from error


def chart(
    identity: str,
    title: str,
    description: str,
    painter: Painter,
    *,
    caption: object = "",
    kind: str = "",
    wide: Size = WIDE,
    narrow: Size = NARROW,
) -> Html:
    """A figure with both drawings. ``title`` and ``description`` are what a screen reader says in its place."""
    drawings = "".join(_svg(f"{identity}-{size.kind}", title, description, painter, size) for size in (wide, narrow))
    kind = f' class="{kind}"' if kind else ""
    return Html(f'<figure id="{identity}"{kind}>{drawings}<figcaption>{esc(caption or title)}</figcaption></figure>')


def _svg(identity: str, title: str, description: str, painter: Painter, size: Size) -> str:
    root = ElementTree.fromstring(_draw(identity, painter, size))
    for metadata in root.findall(f"{_SVG}metadata"):
        root.remove(metadata)
    for defs in root.iter(f"{_SVG}defs"):
        for style in defs.findall(f"{_SVG}style"):
            defs.remove(style)
    for element in root.iter():
        _plain(element)
    box = root.attrib["viewBox"]
    root.attrib.clear()
    # The links in an image would be hidden from screen readers: a drawing with links is a group of them.
    role = "group" if _links(root) else "img"
    root.attrib |= {"class": size.kind, "viewBox": box, "role": role, "aria-labelledby": f"{identity}-t {identity}-d"}
    for at, (tag, text) in enumerate((("title", title), ("desc", description))):
        named = ElementTree.Element(tag, {"id": f"{identity}-{tag[0]}"})
        named.text = text
        root.insert(at, named)
    return ElementTree.tostring(root, encoding="unicode")


def _links(root: ElementTree.Element) -> bool:
    """Name the links; of a point and its name only the name is reached by keyboard."""
    links = list(root.iter("a"))
    for link in links:
        link.attrib.pop("target", None)  # matplotlib opens the links of texts in new windows
        text = " ".join("".join(link.itertext()).split())
        link.attrib |= {"aria-label": f"{text}: to its row"} if text else {"tabindex": "-1", "aria-hidden": "true"}
    return bool(links)


def _draw(identity: str, painter: Painter, size: Size) -> bytes:
    matplotlib = import_module("matplotlib")
    canvas = import_module("matplotlib.backends.backend_agg").FigureCanvasAgg
    new_figure = import_module("matplotlib.figure").Figure
    quiet = dict.fromkeys(("axes.labelcolor", "xtick.color", "ytick.color", "xtick.labelcolor"), QUIET)
    ink = {"text.color": INK, "axes.edgecolor": LINE, "grid.color": LINE, "legend.labelcolor": INK}
    svg = {"svg.fonttype": "none", "svg.hashsalt": identity, "font.size": size.font}
    buffer = io.BytesIO()
    with matplotlib.rc_context({**quiet, **ink, **svg}), warnings.catch_warnings():
        # A name in a script that matplotlib's own font lacks: the reader's browser has it.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = new_figure(figsize=(size.width / 72, size.height / 72), dpi=72, layout="constrained", facecolor="none")
        canvas(figure)
        axes = figure.add_subplot(facecolor="none")
        painter(axes, size)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


_KEPT = {
    "stroke-width", "stroke-linecap", "stroke-linejoin", "stroke-dasharray", "stroke-dashoffset", "opacity",
    "fill-opacity", "stroke-opacity", "text-anchor", "font-size", "font-weight",
}  # fmt: skip


def _plain(element: ElementTree.Element) -> None:
    """One element without namespaces, style attributes and colours of its own."""
    element.tag = element.tag.removeprefix(_SVG)
    if _XLINK in element.attrib:
        element.attrib["href"] = element.attrib.pop(_XLINK)
    if element.tag == "g":
        element.attrib.pop("id", None)
    classes = []
    for declaration in element.attrib.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key in ("fill", "stroke"):
            classes += _colour(element, key, value)
        elif key == "font":
            element.attrib["font-size"] = next(word for word in value.split() if word.endswith("px"))
        elif key in _KEPT:
            element.attrib[key] = value
    if element.tag == "text" and not classes:
        classes = ["f-ink"]
    if classes:
        element.attrib["class"] = " ".join(classes)


def _colour(element: ElementTree.Element, key: str, value: str) -> list[str]:
    known = _CLASSES.get(value.lower())
    if known is not None:
        return [f"{key[0]}-{known}"]
    element.attrib[key] = value
    return []


def calm(axes: Any, *, left: bool = True) -> None:
    """Axes without a frame: a base line and faint rules."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, pad=6)
    axes.set_axisbelow(True)
    if left:
        axes.grid(axis="y", linewidth=0.8)
