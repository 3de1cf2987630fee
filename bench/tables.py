"""Puts the numbers of ``bench/results/*.json`` into the README and the docs, between markers.

    <!-- bench:retrieval columns="what,rows,p50_ms:p50 (ms)" where="rows=100000" -->
    <!-- /bench -->

``columns`` chooses and names columns (default: all), ``where`` filters rows, ``table`` takes another list of the file
than ``rows`` (``differences``). Every value that ``where`` names must be a row's. Rows that have none of the chosen
columns but the first are left out. A column that has an interval beside it (``success`` and ``success_ci``) is shown
with it. Under each table stand n, seeds, the day of the prices, the machine, the commit and the command to repeat it;
where parts of a file were measured one after the other, those of the parts that are shown.

``python bench/tables.py`` writes, ``python bench/tables.py --check`` fails where a table is stale.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
MARKER = re.compile(r"(<!-- bench:(?P<name>[\w-]+)(?P<options>[^>]*?) ?-->\n)(?P<body>.*?)(<!-- /bench -->)", re.DOTALL)


def documents(root: Path = ROOT) -> list[Path]:
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def render(text: str, results: Path = RESULTS) -> str:
    """The text with every table between markers made anew. Raises ``ValueError`` for a marker that cannot be filled."""
    return MARKER.sub(lambda match: match[1] + _body(match["name"], match["options"], results) + match[5], text)


def _body(name: str, options: str, results: Path) -> str:
    path = results / f"{name}.json"
    if not path.exists():
        return f"Not measured yet: `python bench/{name}.py`.\n"
    result = json.loads(path.read_text(encoding="utf-8"))
    chosen = dict(option.split("=", 1) for option in shlex.split(options))
    unknown = set(chosen) - {"columns", "where", "table"}
    if unknown:
        raise ValueError(f"bench:{name}: unknown options {sorted(unknown)}; allowed: columns, table, where")
    try:
        rows = _where(result[chosen.get("table", "rows")], chosen.get("where", ""))
    except ValueError as error:
        raise ValueError(f"bench:{name}: {error}") from None
    columns = _columns(rows, chosen.get("columns", ""))
    told = [row for row in rows if not set(list(columns)[1:]).isdisjoint(row)]
    return f"\n{_table(told or rows, columns)}\n\n{_footers(result, told or rows)}\n\n"


def _where(rows: Sequence[Mapping[str, Any]], condition: str) -> list[Mapping[str, Any]]:
    """Rows for which every ``key=value`` (comma-separated; ``a|b`` for either) holds.

    Raises ``ValueError`` where a value is that of no such row: a name that has changed would take rows out unseen.
    """
    wanted = [(key, values.split("|")) for key, _, values in (pair.partition("=") for pair in condition.split(","))]
    wanted = [(key, values) for key, values in wanted if key]
    found = [row for row in rows if all(_cell(row.get(key)) in values for key, values in wanted)]
    for key, values in wanted:
        there = {_cell(row.get(key)) for row in found}
        if missing := [value for value in values if value not in there]:
            known = ", ".join(sorted({_cell(row.get(key)) for row in rows}))
            raise ValueError(f"no row fits {condition!r} with {key}={'|'.join(missing)}; {key} is one of: {known}")
    if not found:
        raise ValueError("the table has no rows")
    return found


def _columns(rows: Sequence[Mapping[str, Any]], chosen: str) -> dict[str, str]:
    """Keys to headings, in order."""
    if chosen:
        pairs = [column.partition(":") for column in chosen.split(",")]
        keys = {key for row in rows for key in row}
        missing = [key for key, _, _ in pairs if key not in keys]
        if missing:
            raise ValueError(f"no column {missing}; there are {sorted(keys)}")
        return {key: heading or key.replace("_", " ") for key, _, heading in pairs}
    keys = list(dict.fromkeys(key for row in rows for key in row))
    intervals = {_interval_key(key) for key in keys}
    return {key: key.replace("_", " ") for key in keys if key not in intervals}


def _table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    numeric = [all(isinstance(row.get(key), int | float | None) for row in rows) for key in columns]
    lines = [list(columns.values()), ["---:" if right else "---" for right in numeric]]
    lines += [[_with_interval(row, key) for key in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _interval_key(column: str) -> str:
    return f"{column[:-4]}_ci_usd" if column.endswith("_usd") else f"{column}_ci"


def _with_interval(row: Mapping[str, Any], key: str) -> str:
    interval = row.get(_interval_key(key))
    if interval is None or row.get(key) is None:
        return _cell(row.get(key))
    low, high = interval
    return f"{_cell(row[key])} [{_cell(low)}, {_cell(high)}]"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value)
    return str(value).replace("|", "\\|").replace("\n", " ")


def _footers(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each measurement that the rows are of, with the names of its parts where there are several."""
    found: dict[str, list[str]] = {}
    for part in dict.fromkeys(_part(row, result.get("measured", {})) for row in rows):
        found.setdefault(_footer(result if part is None else result["measured"][part]), []).append(part or "others")
    if len(found) == 1:
        return f"<sub>{next(iter(found))}</sub>"
    return "\n\n".join(f"<sub>{', '.join(parts)}: {footer}</sub>" for footer, parts in found.items())


def _part(row: Mapping[str, Any], measured: Mapping[str, Any]) -> str | None:
    return next((value for value in row.values() if isinstance(value, str) and value in measured), None)


def _footer(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    seeds = result["seeds"]
    parts = [
        f"n = {result['n']}" if result["n"] is not None else "",
        f"seeds {_cell(seeds)}" if seeds else "",
        f"prices of {result['prices_date']}" if result["prices_date"] else "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, Python {machine['python']}",
        f"commit {result['commit']}",
        f"`{result['command']}`",
    ]
    return "; ".join(part for part in parts if part)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a table is stale")
    check = parser.parse_args().check
    stale = wrong = 0
    for path in documents():
        text = path.read_text(encoding="utf-8")
        try:
            made = render(text)
        except ValueError as error:
            wrong += 1
            print(f"{path.relative_to(ROOT)}: {error}", file=sys.stderr)
            continue
        if made != text:
            stale += 1
            print(
                f"{path.relative_to(ROOT)}: {'stale, type: python bench/tables.py' if check else 'written'}",
                file=sys.stderr,
            )
            if not check:
                path.write_text(made, encoding="utf-8")
    return 1 if wrong or (check and stale) else 0


if __name__ == "__main__":
    sys.exit(main())
