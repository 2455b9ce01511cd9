"""The promises of pgdbpool, each stated by a test."""
