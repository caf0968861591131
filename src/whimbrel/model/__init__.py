"""Tasks, resources, clusters and jobs as plain data: pure, no I/O, imported by every other room."""
