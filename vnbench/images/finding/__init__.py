"""Images and their masks below a folder, found by the names that people give them."""
