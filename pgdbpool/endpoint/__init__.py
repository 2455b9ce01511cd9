"""One server: its entries, its connections, its sessions, its health."""
