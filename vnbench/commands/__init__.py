"""One module or folder for each command: from what was asked to what is shown."""
