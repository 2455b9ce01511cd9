"""Several servers: which there are, who is what, and which serves."""
