"""What recorded episodes come to in dollars and trust: of one, kept, and of a day."""
