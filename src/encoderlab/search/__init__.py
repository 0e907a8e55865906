"""The vector database: embeddings in, nearest neighbours out."""
