"""Search for images and their masks below a folder, by name."""
