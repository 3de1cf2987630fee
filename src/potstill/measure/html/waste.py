"""What could be avoided: kinds of waste, and repeated prompt text that no cache served.

What it knows: an audit's waste and cache use. What it does not do: add kinds of waste up (they overlap).
"""

from __future__ import annotations

from potstill.measure.audit.headline import known_usd
from potstill.measure.audit.result import Audit, CacheUse
from potstill.measure.html.links import Links
from potstill.measure.html.table import explained, paragraph, section, table
from potstill.measure.html.text import DASH, Html, count, join, name, percent, short_count, usd
from potstill.measure.html.words import CACHE, WASTE, waste_title


def waste_section(audit: Audit, links: Links) -> Html:
    """Every kind with its dollars and links to steps that show it."""
    title = "Waste"
    if not audit.waste:
        why = "Not known: these logs hold no calls with their tools and prompts, only sums for whole attempts."
        return section("waste", title, paragraph(why))
    columns = ("kind", "found", "episodes", "share of calls", "tokens", "$", "share of $", "examples")
    rows, whole = [], known_usd(audit)
    for waste in sorted(audit.waste, key=lambda kind: -(kind.usd or 0.0)):
        dollars = waste.usd / whole if waste.usd is not None and whole else None
        rows.append(
            (
                name(waste_title(waste.kind)),
                count(waste.count),
                count(waste.episodes),
                percent(waste.share),
                short_count(waste.tokens),
                usd(waste.usd),
                percent(dollars),
                links.to(waste.examples, waste.kind),
            )
        )
    note = "Kinds overlap: never add them up. The share of bloated observations is of input tokens, not of calls."
    meanings = [(waste_title(waste.kind), WASTE[waste.kind]) for waste in audit.waste if waste.kind in WASTE]
    return section("waste", title, table(title, columns, rows), explained(meanings), paragraph(note, "quiet"))


def cache_section(audit: Audit, links: Links) -> Html:
    """What caches served, and what a better layout of prompts would save."""
    title = "Prompt caching"
    if audit.cache is None:
        return section("cache", title, paragraph("Not known: these logs hold no input tokens."))
    rows = _cache_rows(audit.cache, known_usd(audit))
    parts = [table(title, ("input", "tokens", "share of input", "$ saved", "share of $"), rows)]
    parts.append(explained(CACHE))
    if audit.cache.cached_tokens is None:
        parts.append(paragraph("No endpoint reported cache reads: the hit rate is not known, which is not zero."))
    if audit.cache.examples:
        parts.append(paragraph(join(["Example episodes: ", links.to(audit.cache.examples)])))
    return section("cache", title, *parts)


def _cache_rows(cache: CacheUse, total_usd: float | None) -> list[tuple[object, ...]]:
    everything = cache.input_tokens or None

    def share(tokens: int | None) -> str:
        return DASH if tokens is None or everything is None else percent(tokens / everything)

    def saved(dollars: float | None) -> tuple[str, str]:
        return usd(dollars), percent(dollars / total_usd if dollars is not None and total_usd else None)

    prefix, elsewhere = cache.repeated_prefix_tokens, cache.repeated_elsewhere_tokens
    prefix_row = (short_count(prefix), percent(cache.repeated_prefix_share), *saved(cache.saving_if_cached_usd))
    elsewhere_row = (short_count(elsewhere), share(elsewhere), *saved(_beyond(cache)))
    return [
        ("All", short_count(cache.input_tokens), percent(1.0 if everything else None), DASH, DASH),
        ("Read from a cache", short_count(cache.cached_tokens), percent(cache.hit_rate), DASH, DASH),
        ("Repeated prefix", *prefix_row),
        ("Repeated behind a change", *elsewhere_row),
    ]


def _beyond(cache: CacheUse) -> float | None:
    """What a better layout saves beyond caching the prefixes there are."""
    if cache.saving_if_laid_out_usd is None or cache.saving_if_cached_usd is None:
        return None
    return max(0.0, cache.saving_if_laid_out_usd - cache.saving_if_cached_usd)
