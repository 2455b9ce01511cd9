"""`pgdbpool demo`: a web shop on pooled connections through a database restart."""
