"""The parent's side of a sweep, which never imports torch: cells, design, estimates, the loop over trials."""
