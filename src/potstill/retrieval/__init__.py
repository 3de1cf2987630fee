"""Finding stored texts that are near a query: BM25, exact vectors, faiss; demonstrations, playbooks and tools share it.

Nothing is imported here: ``potstill.retrieval.registry.open_ranker`` loads only what a ranker's name asks for.
"""
