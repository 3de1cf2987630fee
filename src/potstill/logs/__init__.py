"""Logs that others wrote: files of model calls and of whole attempts, read as records that the audit counts.

What it knows: file formats. What it does not do: prices, statistics, putting calls together into episodes.
"""
