"""Things that are acted upon: ALFWorld, BabyAI, TextWorld, tool-calling tasks; each loads only when it is asked for."""
