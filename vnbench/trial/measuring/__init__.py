"""What trials of several kinds are made of: a corpus, loaders, blocks of steps, and when to stop."""
