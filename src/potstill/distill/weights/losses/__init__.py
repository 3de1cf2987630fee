"""How far a student's decisions are from its teacher's, as something that can be differentiated.

``config.Loss`` says which loss, ``objective.loss_of`` makes it. Beneath: ``rows`` (masks, weights), ``hard``
(cross-entropy), ``soft`` (divergences at a temperature), ``targets`` (what a teacher told: logits, probabilities, top-k
log-probabilities), ``checks`` (bad batches, refused in one line), ``features`` and ``spans``.

Shapes are in the names: B rows (decisions), A actions, K of a teacher's top answers, D and E widths of features, T
positions of a text. Masks are boolean, True where an action is admissible. Nothing is imported here, for ``config`` is
read by the command line, which has no PyTorch.
"""
