"""Role based access control: pure rules, an index of who is bound to what, and the roles that every cluster has."""
