"""What a bullet is worth and what it costs, from outcomes of episodes; and what follows for its stage.

``read`` takes uses out of a store, ``tally`` counts them, ``effect`` says what a bullet does to success, ``rent``
what it costs, ``decide`` and ``guard`` what to do about it, ``report`` puts all of it side by side.
"""
