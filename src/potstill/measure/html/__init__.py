"""The audit as one HTML file that opens from disk: no network, light and dark, phone and keyboard.

What it knows: ``Audit``. What it does not do: compute what an audit says (``measure.audit`` does), or read files.
``render`` gives the text, ``write`` the file; ``check_available`` says early whether they can.
"""

from __future__ import annotations

from potstill.measure.html.charts import check_available
from potstill.measure.html.page import render, write

__all__ = ["check_available", "render", "write"]
