"""The sweep: probed, planned, measured, answered; and the search for the largest batch."""
