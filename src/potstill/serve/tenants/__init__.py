"""Who may ask and for how much: virtual keys, accounts, limits, budgets."""
