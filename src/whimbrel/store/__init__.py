"""What the API server knows: tables, queries as plain functions of a connection, and the threads that run them."""
