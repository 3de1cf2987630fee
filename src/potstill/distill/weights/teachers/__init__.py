"""Several teachers become one: how reliable each is (``reliability``), and labels weighed by that (``fusing``)."""
