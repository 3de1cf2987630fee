"""The report of an audit as HTML: everything is escaped, bounded and linked; charts follow the page's colours."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
import unicodedata
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from html_builders import BASE, COMMAND, LARGE, POLICY, SMALL, audit, call, curve, examples, group, spend
from potstill.errors import MissingExtra, StoreError
from potstill.measure.audit.headline import facts, headline, incomplete
from potstill.measure.audit.result import Audit, Example, FrontierRow, Spend, Warned, Waste
from potstill.measure.html import render, write
from potstill.measure.html.bars import slices_of
from potstill.measure.html.break_even import break_even_chart, pair_of
from potstill.measure.html.charts import chart
from potstill.measure.html.examples import MOST_EPISODES, MOST_STEPS
from potstill.measure.html.labels import Labels
from potstill.measure.html.links import examples_of_groups
from potstill.measure.html.text import clip, count, esc, middle, name, percent, short_count, span, usd, visible

EVIL = (
    "</script></style><script>alert(1)</script><img src=x onerror=alert(1)>\" ' & $x_1$ \x1b[31m \u202egnp.exe"
    " \ud800 \uffff"
)
VOID = {"meta", "br", "link", "wbr"}


class Parsed(HTMLParser):
    """A page taken apart: tags, attributes, ids, visible text; tags that are closed in another order than opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.headings: list[int] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(key, value or "") for key, value in attrs]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data.replace("\u00a0", " ")

    def values(self, key: str) -> list[str]:
        return [value for found, value in self.attributes if found == key]


def parsed(found: Audit | None = None, **options: Any) -> Parsed:
    page = render(audit() if found is None else found, command=COMMAND, **options)
    taken = Parsed(page)
    assert taken.open == []
    return taken


@pytest.fixture(scope="module")
def page() -> str:
    return render(audit(), command=COMMAND)


# --- the page as a whole ----------------------------------------------------------------------------------------------


def test_the_page_says_the_same_first_sentences_as_the_terminal(page: str) -> None:
    text = Parsed(page).text
    assert len(headline(audit())) == 4
    for sentence in headline(audit()):
        assert sentence in text


def test_the_three_figures_are_total_cost_of_a_success_and_the_largest_avoidable_share(page: str) -> None:
    figures = re.findall(r'<span class="figure">(.*?)</span>', page)
    # The cheapest success is the first group's; of 0.41, 0.95, 0.33 (waste) and 0.74, 0.83 (cache) of 9.41 the most.
    assert figures == ["$9.41", "$0.0311", "10.1\u00a0%"]
    assert "95 % interval: $0.0254 to $0.0389" in page


def test_cards_and_terminal_tell_the_same_figures(page: str) -> None:
    said = headline(audit())
    for fact, sentence in zip(facts(audit()), said, strict=False):
        assert fact.figure in sentence
    assert said[1].startswith("A success costs $0.0311 [$0.0254 to $0.0389] with gpt-4.1-mini in retail base")
    assert ", $0.0612 [$0.0533 to $0.0709] with gpt-5-mini in " in said[1]
    assert said[2] == (
        "The largest avoidable share, an estimate: 10.1 % ($0.950) for bloated observations (found 88 times)."
    )
    assert said[3].startswith("91 % of the input repeats the start of an earlier prompt; 80 % of all input was read")
    card = re.search(r"<dt>Cost of a success</dt>.*?</div>", page, re.DOTALL)
    assert card is not None
    assert "gpt-4.1-mini #1, the cheapest, succeeds at 50.0 % (41.0 % to 59.0 %); gpt-5-mini, the most" in card[0]


def test_an_unknown_kind_of_waste_is_written_in_words() -> None:
    waste = (Waste(kind="possibly_redundant_calls", count=1, episodes=1, share=0.1, tokens=1, usd=0.5),)
    found = audit(waste=waste, cache=None)
    assert "for possibly redundant calls (found 1 time)" in headline(found)[2]
    assert "possibly_redundant" not in parsed(found).text


def partly_known() -> Audit:
    """50 attempts, the cost of one of which is not known."""
    one = group(n=50, n_infrastructure_errors=0, successes=20, success=0.4, success_ci=(0.28, 0.54), cost_usd=None,
                known_cost_usd=0.5, attempts_without_cost=1, cost_per_episode_usd=None, cost_of_pass_usd=None,
                cost_of_pass_ci_usd=None)  # fmt: skip
    row = FrontierRow(model=SMALL, run=BASE, cost_per_episode_usd=None, success=0.4, on_hull=False)
    slice_ = Spend(name=SMALL, usd=None, share=None, calls=60, episodes=50, input_tokens=None, cached_input_tokens=None,
                   output_tokens=None, known_usd=0.5, without_cost=1, examples=("sim-1",))  # fmt: skip
    return audit(groups=(one,), frontier=(row,), total_usd=None, known_usd=0.5, calls=60, episodes=50,
                 by_model=(slice_,), by_step_type=(), by_outcome=(), budget_curves=(), aiq=None)  # fmt: skip


def test_costs_that_are_known_in_part_are_told_as_lower_bounds() -> None:
    found = partly_known()
    said = headline(found)
    assert said[0].startswith("At least $0.500 in 50 episodes and 60 calls of 1 model: the cost of 1 of 50 ep")
    # 0.5 dollars over 20 successes, and 0.95 (bloated observations) is more than is known.
    assert said[1].startswith("A success costs at least $0.0250 with gpt-4.1-mini")
    assert "of the known dollars" in said[2]
    page = render(found, command=COMMAND)
    text = Parsed(page).text
    assert "hold neither dollars" not in text
    row = re.findall(r'<tr><th scope="row" class="w"><span id="group-1">.*?</tr>', page, re.DOTALL)[0]
    # Per success, per episode, all.
    assert re.findall(r">(≥\u00a0\S+?)<", row) == ["≥\u00a0$0.0250", "≥\u00a0$0.0100", "≥\u00a0$0.500"]
    assert "≥ $0.0100 per episode, success 40.0 %" in text
    assert "Hollow: some of its cost is not known" in text
    assert "Shares of all dollars that are known" in text


def test_an_audit_that_was_interrupted_says_so_first() -> None:
    assert incomplete(audit()) is None
    found = audit(partial=True)
    assert headline(found)[0].startswith("Incomplete: reading was interrupted")
    text = parsed(found).text
    assert text.count("Incomplete: reading was interrupted") == 1
    assert text.index("Incomplete: reading was interrupted") < text.index("Spent")


# --- from figures to episodes -----------------------------------------------------------------------------------------


def test_every_group_leads_to_its_episodes_and_every_point_to_its_group(page: str) -> None:
    rows = re.findall(r'<tr><th scope="row" class="w"><span id="(group-\d)">(.*?)</tr>', page, re.DOTALL)
    linked = {identity: re.findall(r'href="(#\S+?)"', row) for identity, row in rows}
    numbers = {identity: number for number, identity in re.findall(r'id="episode-(\d)".*?<dd>(sim-\d)', page)}
    assert linked == {
        "group-1": [f"#episode-{numbers['sim-1']}"],
        "group-2": [f"#episode-{numbers['sim-3']}"],
        "group-3": [f"#episode-{numbers['sim-2']}"],
    }
    for chart_id in ("frontier-chart", "budget-chart"):
        drawing = re.search(rf'<figure id="{chart_id}".*?</svg>', page, re.DOTALL)
        assert drawing is not None
        # By keyboard each group is reached once: by its name.
        reached = [link for link in re.findall(r"<a [^>]*>", drawing[0]) if "tabindex" not in link]
        assert sorted(re.findall(r'href="(#\S+?)"', "".join(reached))) == ["#group-1", "#group-2", "#group-3"]
        assert all("aria-label=" in link for link in reached)


def test_cards_lead_to_episodes_that_show_them(page: str) -> None:
    cards = re.findall(r'<p class="quiet examples">Example episodes: (.*?)</p>', page)
    assert len(cards) == 3
    assert all('href="#episode-' in card for card in cards)


def test_in_a_run_that_is_one_group_every_episode_is_that_groups() -> None:
    # A cascade: its group is called after both models, its episodes after those that answered.
    cascade = (group("student+teacher", BASE), group("student+teacher", POLICY))
    found = examples_of_groups(audit(groups=cascade))
    assert found == {("student+teacher", BASE): ("sim-1", "sim-2"), ("student+teacher", POLICY): ("sim-3",)}


def test_a_group_of_which_no_episode_was_kept_says_so() -> None:
    page = render(audit(groups=(group("other", "elsewhere"),)), command=COMMAND)
    assert "none kept" in re.findall(r'<span id="group-1">.*?</tr>', page, re.DOTALL)[0]


def test_the_confidence_of_the_audit_is_the_one_that_is_named() -> None:
    text = parsed(confidence=0.9).text
    assert "90 % interval: $0.0254" in text
    assert "with 90 % intervals of success" in text
    assert "95 %" not in text.replace("95.6 %", "")


def test_ids_are_unique_and_every_link_leads_somewhere_on_the_page(page: str) -> None:
    taken = Parsed(page)
    ids = taken.values("id")
    assert len(ids) == len(set(ids))
    for link in taken.values("href"):
        assert link == "data:," or (link.startswith("#") and link[1:] in ids), link
    for label in taken.values("aria-labelledby"):
        assert set(label.split()) <= set(ids)


def test_headings_go_down_one_level_at_a_time(page: str) -> None:
    levels = Parsed(page).headings
    assert levels.count(1) == 1
    assert levels[0] == 1
    # Headings inside the steps of an episode are one level deeper than the others there.
    assert all(after - before <= 2 for before, after in pairwise(levels))


def test_nothing_can_be_fetched_and_only_the_named_style_and_script_act(page: str) -> None:
    taken = Parsed(page)
    assert not {"style", "onclick", "onerror", "src", "srcset", "action"} & {key for key, _ in taken.attributes}
    assert taken.tags.count("style") == taken.tags.count("script") == 1
    policy = next(value for value in taken.values("content") if "default-src" in value)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for kind in ("style", "script"):
        text = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)[0]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "http://" not in page
    assert "https://" not in page


def test_the_same_audit_gives_the_same_bytes(page: str) -> None:
    assert render(audit(), command=COMMAND) == page


def test_an_audit_without_anything_says_what_is_not_known() -> None:
    empty = Audit(prices_date="2026-11-01", groups=(), frontier=(), total_usd=None, calls=0, episodes=0)
    text = below_the_headline(empty)
    assert not re.search(r"\$0(?![.0-9])", text)
    for sentence in ("unknown", "no frontier to draw", "no budget curve", "break even against", "kept no episodes"):
        assert sentence in text


def below_the_headline(found: Audit) -> str:
    """The text of the page without the sentences that the terminal shows too."""
    text = parsed(found).text
    for sentence in headline(found):
        text = text.replace(sentence, "")
    return text


def test_a_cost_that_is_not_known_is_a_dash_and_never_zero() -> None:
    unknown = group(cost_usd=None, cost_per_episode_usd=None, cost_of_pass_usd=None, cost_of_pass_ci_usd=None)
    row = FrontierRow(model=SMALL, run=BASE, cost_per_episode_usd=None, success=0.5, on_hull=False)
    bare = audit(
        groups=(unknown,), frontier=(row,), total_usd=None, budget_curves=(), by_model=(spend(SMALL, None, None),),
        by_step_type=(), by_outcome=(), waste=(), cache=None,
    )  # fmt: skip
    text = below_the_headline(bare)
    assert not re.search(r"\$0(?![.0-9])", text.split("Example episodes")[0])
    assert "calls (dollars are not known)" in text


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"pip install 'potstill\[report\]'"):
        render(audit(), command=COMMAND)


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.html"
    write(audit(), target, command=COMMAND)
    old = target.read_bytes()
    assert old.endswith(b"</html>\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("potstill.durable.os.fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write(audit(total_usd=1.0), target, command=COMMAND)
    assert target.read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


# --- stored text is data ----------------------------------------------------------------------------------------------


def hostile(text: str) -> Audit:
    """An audit in which every text that comes from logs is ``text``."""
    bad_call = call(1, model=text, step_type=text, prompt=text, answer=text, marks=(text,), answerer=text,
                    votes=(text,), demonstrations=(text,))  # fmt: skip
    bad = Example(id=text, model=text, run=text, task_id=text, success=None, error=text, usd=None, file=text, line=1,
                  calls=(bad_call,))  # fmt: skip
    one = audit().student_steps[0]
    return audit(
        groups=(group(text, text), group(LARGE, text, cost_per_episode_usd=0.02, success=0.9)),
        frontier=(FrontierRow(model=text, run=text, cost_per_episode_usd=0.015, success=0.5, on_hull=True),),
        warnings=tuple(Warned(kind=text, run=text, count=1, detail=text) for _ in range(4)),
        files=(type(audit().files[0])(path=text, format=text, rows=1, understood=0, skipped=(
            type(audit().files[0].skipped[0])(reason=text, count=1, lines=(1,), detail=text),)),),
        by_model=(spend(text, 1.0, 0.5, text),), by_step_type=(spend(text, 1.0, 0.5, text),),
        waste=(Waste(kind=text, count=1, episodes=1, share=0.1, tokens=1, usd=0.1, examples=(text,)),),
        student_steps=(type(one)(model=text, against=text, step_type=text, n=1, agreement=1.0, agreement_ci=None,
                                 success=None, examples=(text,)),),
        budget_curves=(curve(text, text, 0.5, 0.05),), examples=(bad,), prices_date=text,
    )  # fmt: skip


def test_hostile_text_stays_text_everywhere(page: str) -> None:
    bad = render(hostile(EVIL), command=EVIL, title=EVIL)
    taken = Parsed(bad)
    assert taken.tags.count("script") == taken.tags.count("style") == 1
    assert "img" not in taken.tags
    assert {key for key, _ in taken.attributes} <= {key for key, _ in Parsed(page).attributes}
    assert "\x1b" not in bad
    assert "\u202e" not in bad
    assert "\\x1b[31m" in taken.text
    assert "\\u202egnp.exe" in taken.text
    bad.encode()  # no halves of surrogates


@pytest.mark.slow
def test_ten_megabytes_of_text_are_cut() -> None:
    page = render(hostile("<&" * 5_000_000), command=COMMAND)
    assert len(page.encode()) < 400_000
    assert "9,998,800 more characters" in page


@given(st.text(st.characters(codec=None), max_size=60))
@settings(max_examples=300)
def test_every_text_becomes_characters_that_can_be_seen_and_stored(text: str) -> None:
    shown = str(esc(text))
    shown.encode()
    assert not re.search("[<>\"']", shown)
    unseen = {character for character in shown if unicodedata.category(character) in ("Cc", "Cs")} - {"\t", "\n"}
    assert unseen == set()
    assert not any(unicodedata.bidirectional(character) in ("RLO", "LRO", "RLE", "LRE", "PDF") for character in shown)


@given(st.text(st.characters(codec=None), max_size=40))
@settings(max_examples=15)
def test_every_text_can_stand_in_a_chart(text: str) -> None:
    def painter(axes: Any, size: Any) -> None:
        axes.text(0, 0, name(text), parse_math=False)

    taken = Parsed(str(chart("one", visible(text), visible(text), painter)))
    assert taken.open == []
    assert taken.tags.count("svg") == 2


def test_long_names_are_cut_on_one_line() -> None:
    assert name("a\nb\t c") == "a b c"
    assert name("x" * 100, 10) == "x" * 9 + "…"
    assert middle("2026-02-21 a very long name of a run, sample 4", 20) == "2026-02-21 a …mple 4"
    assert name("") == "(no name)"
    assert clip("abc", 3) == "abc"
    assert clip("abcd", 3) == "abc… (1 more characters)"


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"), (float("nan"), "–"), (0, "$0"), (0.000012345, "$0.0000123"), (0.0311, "$0.0311"),
        (0.999, "$0.999"), (1.005, "$1.00"), (123.456, "$123.46"), (34_912.3, "$34,912"), (-0.5, "−$0.500"),
    ],
)  # fmt: skip
def test_dollars_keep_three_digits(value: float | None, written: str) -> None:
    assert usd(value) == written


def test_counts_and_shares() -> None:
    assert [short_count(n) for n in (None, 0, 950, 12_877, 7_120_344, 3.2e9)] == [
        "–", "0", "950", "12.9 k", "7.12 M", "3.2 G",
    ]  # fmt: skip
    assert (count(1234.0), percent(0.5), percent(None)) == ("1,234", "50.0\u00a0%", "–")
    assert span((0.02, None), usd) == "$0.0200 to ∞"


# --- charts -----------------------------------------------------------------------------------------------------------


def test_charts_have_no_colours_of_their_own_and_say_in_words_what_they_show(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 6  # frontier, budget, spending: each for a wide page and for a phone
    drawings += re.findall(r"<svg.*?</svg>", drawn_break_even(), re.DOTALL)
    assert len(drawings) == 8
    for drawing in drawings:
        assert not re.search(r"#[0-9a-fA-F]{6}|style=|rgb\(", drawing)
        named = r'role="group" aria-labelledby="\S+ \S+">\s*<title id=".+?">.+?</title><desc id=".+?">.+?</desc>'
        assert re.search(named, drawing)
    said = "gpt-5-mini: $0.0461 per episode, success 78.0 % (69.0 % to 84.0 %), on the frontier"
    assert said in drawings[0].replace("\u00a0", " ")


def test_many_slices_are_joined_so_that_each_has_a_colour() -> None:
    slices = slices_of([(f"tool {at}", 1.0) for at in range(20)] + [("free", 0.0)])
    assert len(slices) == 8
    assert slices[-1] == ("13 others", 13.0, "")
    linked = slices_of([("free", 0.0), ("a", 1.0), *((f"tool {at}", 1.0) for at in range(9))], "by-model")
    assert (linked[0].link, linked[-1].link) == ("#by-model-2", "#by-model-9")


def drawn_break_even() -> str:
    dear = group(LARGE, cost_per_episode_usd=0.059, success=0.8, success_ci=(0.7, 0.9))
    cheap = group(SMALL, cost_per_episode_usd=0.024, success=0.79, success_ci=(0.69, 0.88))
    found = audit(groups=(dear, cheap))
    return str(break_even_chart(found, Labels(found)))


def test_break_even_is_set_up_over_the_difference_per_episode() -> None:
    # arXiv 2512.02543's costs per episode: the set-up of 500 episodes at 0.059 is 29.50, and 29.50 / 0.035 = 843.
    drawn = drawn_break_even()
    text = Parsed(drawn).text
    assert "would have paid for a set-up of $2.95 to $29.50 after 85 to 843 episodes, if it does the same work" in text
    assert "does not prove that it is not worse" in text
    assert "<strong>" not in drawn


@pytest.mark.parametrize(("success", "interval"), [(0.75, (0.65, 0.85)), (0.79, (0.78, 0.795))])
def test_no_break_even_is_drawn_with_a_group_that_looks_worse(success: float, interval: tuple[float, float]) -> None:
    # Five points less; and one point less with an interval that does not reach 80 %.
    cheap = group(SMALL, cost_per_episode_usd=0.024, success=success, success_ci=interval)
    found = audit(groups=(group(LARGE, cost_per_episode_usd=0.059, success=0.8, success_ci=(0.7, 0.9)), cheap))
    said = str(break_even_chart(found, Labels(found)))
    assert pair_of(found) is None
    assert "<svg" not in said
    assert "no cheaper group does the same work: gpt-4.1-mini, the nearest, succeeds at" in said
    assert f"{80 - 100 * success:.1f} points less than gpt-5-mini" in said


def test_the_pair_is_the_best_group_and_the_cheapest_of_those_that_do_the_same_work() -> None:
    best = group(LARGE, cost_per_episode_usd=0.06, success=0.8, success_ci=(0.7, 0.9))
    near = group(SMALL, run=BASE, cost_per_episode_usd=0.03, success=0.8, success_ci=(0.7, 0.9))
    cheaper = group(SMALL, run=POLICY, cost_per_episode_usd=0.02, success=0.79, success_ci=(0.69, 0.88))
    assert pair_of(audit(groups=(best, near))) is None  # the best group is the cheaper of two equals
    top = group(LARGE, cost_per_episode_usd=0.06, success=0.805, success_ci=(0.7, 0.9))
    assert pair_of(audit(groups=(near, top, cheaper))) == (top, cheaper)
    assert pair_of(audit()) is None  # 17 points
    assert pair_of(audit(groups=audit().groups[:1])) is None
    cheapest_is_best = (group(success=0.9, cost_per_episode_usd=0.01), group(LARGE, cost_per_episode_usd=0.02))
    assert pair_of(audit(groups=cheapest_is_best)) is None


def test_points_on_each_other_are_named_once_by_all_their_numbers() -> None:
    same = [group(f"m{at}", cost_per_episode_usd=0.02 + 1e-7 * at, success=0.9 - 0.1 * at) for at in range(9)]
    same += [group("twin", f"run {at}", cost_per_episode_usd=0.03, success=0.5) for at in range(3)]
    page = render(audit(groups=tuple(same), frontier=()), command=COMMAND)
    drawing = re.search(r'<figure id="frontier-chart".*?</svg>', page, re.DOTALL)
    assert drawing is not None
    written = re.findall(r"<text[^>]*>\s*([^<]*?)\s*</text>", drawing[0])
    assert "10, 11, 12" in written
    assert not {"10", "11", "12"} & set(written)
    assert "9" in written


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_and_line_stands_out_by_at_least_four_and_a_half(page: str, scheme: str) -> None:
    light, dark = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    colours = dict(re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]{6});", light if scheme == "light" else dark))
    paper, ink = colours["--paper"], colours["--ink"]
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for key in ("--ink", "--quiet", "--link", "--good", "--bad", *(f"--c{at}" for at in range(6))):
        assert contrast(colours[key], paper) >= 4.5, key
        assert contrast(colours[key], colours["--soft"]) >= 4.5, key
    for at in range(8):
        assert contrast(ink, colours[f"--t{at}"]) >= 4.5, at
    assert contrast(colours["--mark"], colours["--mark-paper"]) >= 4.5
    assert contrast(colours["--quiet"], colours["--warn-paper"]) >= 4.5
    assert contrast(colours["--link"], colours["--warn-paper"]) >= 4.5


# --- parts ------------------------------------------------------------------------------------------------------------


def test_waste_links_to_the_first_step_that_shows_it(page: str) -> None:
    waste = re.search(r'<section id="waste".*?</section>', page, re.DOTALL)
    assert waste is not None
    assert re.findall(r'href="(#\S+?)"', waste[0]) == ["#episode-2", "#episode-1-step-3", "#episode-1-step-4"]


def test_warnings_come_before_the_figures_they_are_about(page: str) -> None:
    assert page.index('id="warnings"') < page.index('id="groups"')
    text = Parsed(page).text
    for part in ("Infrastructure errors", "Different harness", "Missing tasks", "316", "in 4 places", "Skipped rows"):
        assert part in text
    assert "2 × Truncated line (line 77, 1,262): the line ends in a string" in text
    clean = parsed(audit(warnings=(), files=())).text
    assert "No duplicates, broken attempts or other dirt" in clean


def test_agreement_stands_beside_spending(page: str) -> None:
    section = re.search(r'<section id="students".*?</section>', page, re.DOTALL)
    assert section is not None
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr>.*?</tr>", section[0])[1:]]
    assert rows[0][:7] == ["message", SMALL, LARGE, "38.3", "%", "$3.60", "410"]
    assert rows[1][:7] == ["get_order_details", SMALL, LARGE, "22.3", "%", "$2.10", "240"]


def test_a_step_shows_who_answered_votes_and_demonstrations(page: str) -> None:
    step = re.search(r'<div id="episode-1-step-4".*?</details></li>', page, re.DOTALL)
    assert step is not None
    text = Parsed(f"<li><details>{step[0]}").text
    for part in (
        "Votes of the student",
        "2 × exchange now",
        "ask first",
        "Decision",
        "teacher, no majority",
        "exchange of a lamp, step 4",
        "answered by teacher",
    ):
        assert part in text
    assert "decided:" not in text


@pytest.mark.slow
def test_a_large_audit_stays_small_and_shows_what_figures_refer_to() -> None:
    one = examples()[0]
    many = tuple(
        Example(id=f"e{at}", model=SMALL, run=BASE, task_id=str(at), success=True, error=None, usd=0.1, file="f",
                line=at, calls=tuple(call(n, prompt="<" * 3000, answer="&" * 3000) for n in range(1, 201)))
        for at in range(300)
    )  # fmt: skip
    groups = tuple(group(f"model {at}", f"run {at}") for at in range(400))
    found = audit(
        groups=groups, examples=(*many, one), by_step_type=tuple(spend(f"tool {at}", 1.0, 0.1) for at in range(2000)),
        warnings=tuple(Warned(kind="k", run=f"r{at}", count=1, detail="d" * 900) for at in range(3000)),
        budget_curves=tuple(curve(f"model {at}", f"run {at}", 0.5, 0.1) for at in range(400)),
    )  # fmt: skip
    page = render(found, command=COMMAND)
    assert len(page.encode()) < 1_500_000
    text = Parsed(page).text
    assert "sim-1" in text  # the last of 301, but waste refers to it
    assert "more steps not shown" in text
    assert "300 more rows are in the output of --json" in text
    assert re.search(r"\d+ more examples are in the output of --json", text)
    assert 1 <= page.count('class="episode"') <= MOST_EPISODES
    assert page.count('id="episode-2-step-') <= MOST_STEPS


def test_one_runs_model_goes_by_its_name_and_a_model_with_runs_by_number() -> None:
    found = audit()
    labels = Labels(found)
    assert [labels.of(each) for each in found.groups] == ["gpt-4.1-mini #1", "gpt-4.1-mini #2", "gpt-5-mini"]
    assert labels.by_key("another", "run") == "another"
