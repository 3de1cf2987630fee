"""One visible training loop for small networks: ``loop.train``.

``config`` says how, ``schedule`` how fast at each step, ``checkpoint`` keeps what a killed run goes on from,
``interrupts`` lets Ctrl-C wait for the end of a step.
"""
