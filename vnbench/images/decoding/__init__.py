"""Image and mask files: their headers, and their pixels as gray or as classes."""
