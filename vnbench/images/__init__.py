"""Image files: folders, manifests, decoders, and the corpora that are drawn."""
