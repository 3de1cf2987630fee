"""The store on PostgreSQL, for gateways of several processes or hosts: what differs from SQLite, and nothing else.

Import ``postgres.store`` only where a URL was given (``opening``): it needs the extra ``postgres``.
"""
