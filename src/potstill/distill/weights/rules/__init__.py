"""Rules out of a teacher's decisions (``learning``), and what they are worth on held-out tasks (``certifying``)."""
