"""The parent process of a sweep, without torch: cells, design, estimates, and the loop over trials."""
