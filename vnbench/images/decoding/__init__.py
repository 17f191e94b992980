"""Image and mask files: what their headers tell, and their pixels as gray and as classes."""
