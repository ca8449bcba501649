"""blastogan: progressively grown GANs for blastocyst images."""
