"""HTTP dialects, one file each: pure functions between ``potstill.types`` and bytes. No sockets, files or prices."""
