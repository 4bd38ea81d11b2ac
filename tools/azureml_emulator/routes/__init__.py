"""The service's endpoints, one file per area; importing a file puts its routes into the table."""
