"""Operations on services."""
