"""The capacity plan: what was asked, its answer, and several runs of a team on several cards."""
