"""Events: the bus, the catalogue, the journal."""
