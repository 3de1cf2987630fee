"""What the commands that train students do: plan, data out of the store, training with progress, gate, file.

What it knows: where the parts of a training lie. What it does not do: parse or print (``distill_weights``,
``distill_retrain``, ``distill_rules``, ``compress`` beside this folder), learn (``distill.weights``). Nothing is
imported here.
"""
