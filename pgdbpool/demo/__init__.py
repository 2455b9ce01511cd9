"""`pgdbpool demo`: a web shop on pooled connections through restart and switch-over."""
