"""``vnbench gate --against``: both sides measured in turn, block by block, until it is decided."""
