"""Operations on projects, environments, links and bindings."""
